//! What the runs of the last day say: how many of each kind, how many of them ended well, and how long they took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::runs::Runs;
use crate::status::State;
use crate::time::Time;

/// How far back it looks.
const SPAN: Duration = Duration::from_secs(86_400);
/// Runs that are looked at, at most: the newest of a very busy day stand for all.
const MOST: usize = 20_000;

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// Its name.
    pub kind: Arc<str>,
    /// Its runs.
    pub runs: usize,
    /// Of a hundred that ran, how many ended well.
    pub ok: Option<u8>,
    /// Half of them took no longer, in milliseconds.
    pub p50: Option<u32>,
    /// 95 of 100 took no longer, in milliseconds.
    pub p95: Option<u32>,
}

/// The last day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Most runs first.
    pub kinds: Vec<KindRow>,
    /// Of a thousand that ran, how many ended well.
    pub ok: Option<u16>,
    /// As in a row.
    pub p95: Option<u32>,
}

#[derive(Default)]
struct Tally {
    runs: usize,
    good: usize,
    ran: usize,
    took: Vec<u32>,
}

impl Tally {
    fn add(&mut self, state: State, took: Option<u32>) {
        self.runs += 1;
        let never_ran = matches!(state, State::Rejected | State::Expired | State::Duplicate | State::Cancelled);
        self.ran += usize::from(!never_ran);
        self.good += usize::from(state == State::Succeeded);
        self.took.extend(took.filter(|_| state == State::Succeeded));
    }

    fn share(&self, of: usize) -> Option<usize> {
        (self.good * of).checked_div(self.ran)
    }

    fn percentile(&mut self, hundredths: usize) -> Option<u32> {
        let at = (self.took.len() * hundredths).div_ceil(100).checked_sub(1)?;
        Some(*self.took.select_nth_unstable(at).1)
    }
}

impl Day {
    /// Looks at the runs that ended within a day before `now`.
    #[must_use]
    pub fn of(runs: &Runs, now: Time) -> Self {
        let mut all = Tally::default();
        let mut kinds: BTreeMap<Arc<str>, Tally> = BTreeMap::new();
        let recent = |at: Time| now.since(at) < SPAN;
        for run in runs.finals().take(MOST).take_while(|run| run.finished_at.is_none_or(recent)) {
            all.add(run.state, run.duration_ms);
            if let Some(kind) = &run.kind {
                kinds.entry(Arc::clone(kind)).or_default().add(run.state, run.duration_ms);
            }
        }
        let mut rows: Vec<KindRow> = kinds
            .into_iter()
            .map(|(kind, mut tally)| KindRow {
                kind,
                runs: tally.runs,
                ok: tally.share(100).and_then(|share| u8::try_from(share).ok()),
                p50: tally.percentile(50),
                p95: tally.percentile(95),
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.runs));
        Self { kinds: rows, ok: all.share(1000).and_then(|share| u16::try_from(share).ok()), p95: all.percentile(95) }
    }
}
