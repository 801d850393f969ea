//! One stream that is masked while it goes by. Holds back no more than what may still become an occurrence.

use std::fmt;
use std::sync::Arc;

use super::search::Place;
use super::{MARKER, Mask};

/// A stream. Several of one mask share its search.
pub struct Masker {
    mask: Arc<Mask>,
    place: Option<Place>,
    /// Read and not yet passed on.
    held: Vec<u8>,
    /// What of it is covered: from, to; in order, with no overlap.
    covered: Vec<(usize, usize)>,
    /// What was passed on last is a marker.
    marked: bool,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Masker {
    /// A stream at its beginning.
    #[must_use]
    pub fn new(mask: Arc<Mask>) -> Self {
        let place = mask.0.as_ref().map(super::Search::start);
        Self { mask, place, held: Vec::new(), covered: Vec::new(), marked: false }
    }

    /// What is looked for.
    #[must_use]
    pub const fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    /// Appends the masked form of `bytes` to `out`; what may still be the beginning of an occurrence is held back.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let (Some(search), Some(place)) = (&self.mask.0, &mut self.place) else {
            return out.extend_from_slice(bytes);
        };
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        let covered = &mut self.covered;
        search.read(place, bytes, &mut |end, length| {
            let (mut from, to) = (before + end - length, before + end);
            while let Some(&(earlier, until)) = covered.last() {
                if until < from {
                    break;
                }
                from = from.min(earlier);
                covered.pop();
            }
            covered.push((from, to));
            true
        });
        // Nothing that is still to come can reach further back.
        let sure = self.held.len() - search.depth(*place);
        self.pass_on(sure, out);
    }

    /// The stream has ended: what was held back is appended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.pass_on(self.held.len(), out);
        self.place = self.mask.0.as_ref().map(super::Search::start);
        self.marked = false;
    }

    /// Passes on the first `sure` bytes of what is held.
    fn pass_on(&mut self, sure: usize, out: &mut Vec<u8>) {
        let mut at = 0;
        let mut left = Vec::new();
        for &(from, to) in &self.covered {
            if at < from.min(sure) {
                out.extend_from_slice(&self.held[at..from.min(sure)]);
                self.marked = false;
            }
            if from < sure && !self.marked {
                out.extend_from_slice(MARKER.as_bytes());
                self.marked = true;
            }
            at = at.max(to.min(sure));
            if to > sure {
                left.push((from.max(sure) - sure, to - sure));
            }
        }
        if at < sure {
            out.extend_from_slice(&self.held[at..sure]);
            self.marked = false;
        }
        self.covered = left;
        self.held.drain(..sure);
    }
}
