//! Looks for all patterns at once, byte by byte, with a look ahead that skips what no pattern can start in. Holds no
//! state of a stream: that is the caller's.

use std::collections::BTreeSet;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::{SHORTEST, TooLarge};

/// Length of the pieces by which is decided what can be skipped.
const PIECE: usize = 3;
/// Bits of a piece's hash: the table fits into a processor's first cache.
const BITS: u32 = 15;

/// The automaton and what is known of its states.
pub(super) struct Search {
    nfa: NFA,
    start: StateID,
    nodes: Vec<Node>,
    /// By the hash of a piece: how far the window of [`SHORTEST`] bytes that ends with it can be moved on.
    skip: Vec<u8>,
}

/// A state stands for the longest end of what was read that a pattern begins with.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Length of that end.
    depth: u32,
    /// Length of the longest pattern that ends here; 0 where none does.
    longest: u32,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(StateID);

fn hash(piece: &[u8]) -> usize {
    let number = u32::from(piece[0]) | u32::from(piece[1]) << 8 | u32::from(piece[2]) << 16;
    (number.wrapping_mul(0x9E37_79B1) >> (32 - BITS)) as usize
}

impl Search {
    /// All patterns have at least [`SHORTEST`] bytes.
    pub(super) fn new(patterns: &BTreeSet<Vec<u8>>) -> Result<Self, TooLarge> {
        // Not leftmost: of matches that overlap, every one counts.
        let nfa = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(patterns);
        let nfa = nfa.map_err(|_| TooLarge)?;
        let start = nfa.start_state(Anchored::No).map_err(|_| TooLarge)?;
        let mut nodes: Vec<Node> = Vec::new();
        let mut skip = vec![u8::try_from(SHORTEST - PIECE + 1).unwrap_or(1); 1 << BITS];
        for pattern in patterns {
            let mut state = start;
            for (at, &byte) in pattern.iter().enumerate() {
                // What a pattern begins with has a state of its own.
                state = nfa.next_state(Anchored::No, state, byte);
                if nodes.len() <= state.as_usize() {
                    nodes.resize(state.as_usize() + 1, Node::default());
                }
                let node = &mut nodes[state.as_usize()];
                if node.depth == 0 {
                    node.depth = u32::try_from(at + 1).map_err(|_| TooLarge)?;
                    node.longest = u32::try_from(longest(&nfa, state)).map_err(|_| TooLarge)?;
                }
            }
            for end in PIECE..=SHORTEST.min(pattern.len()) {
                let far = &mut skip[hash(&pattern[end - PIECE..end])];
                *far = (*far).min(u8::try_from(SHORTEST - end).unwrap_or(0));
            }
        }
        Ok(Self { nfa, start, nodes, skip })
    }

    /// Where a stream begins.
    pub(super) const fn start(&self) -> Place {
        Place(self.start)
    }

    /// How many of the bytes read last may be the beginning of an occurrence.
    pub(super) fn depth(&self, place: Place) -> usize {
        self.nodes.get(place.0.as_usize()).map_or(0, |node| node.depth as usize)
    }

    /// Reads on; `found` is told of the longest occurrence at each place where one ends: its end, counted from the
    /// start of `bytes`, and its length, which may reach back into what was read before.
    pub(super) fn read(&self, place: &mut Place, bytes: &[u8], found: &mut dyn FnMut(usize, usize) -> bool) {
        let mut state = place.0;
        let mut at = 0;
        while at < bytes.len() {
            if state == self.start {
                at = self.skip(bytes, at);
                if at >= bytes.len() {
                    break;
                }
            }
            state = self.nfa.next_state(Anchored::No, state, bytes[at]);
            at += 1;
            if self.nfa.is_match(state) && !found(at, self.nodes[state.as_usize()].longest as usize) {
                break;
            }
        }
        *place = Place(state);
    }

    /// The first place from `at` on where a pattern may start.
    fn skip(&self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(piece) = bytes.get(at + SHORTEST - PIECE..at + SHORTEST) {
            match self.skip[hash(piece)] {
                0 => return at,
                far => at += usize::from(far),
            }
        }
        at
    }

    pub(super) fn finds(&self, bytes: &[u8]) -> bool {
        let mut any = false;
        self.read(&mut self.start(), bytes, &mut |_, _| {
            any = true;
            false
        });
        any
    }
}

fn longest(nfa: &NFA, state: StateID) -> usize {
    if !nfa.is_match(state) {
        return 0;
    }
    let lengths = (0..nfa.match_len(state)).map(|at| nfa.pattern_len(nfa.match_pattern(state, at)));
    lengths.max().unwrap_or(0)
}
