//! The books: that nothing is lost on the way (I8), and at the end, that every request has come to exactly one end (I1).

use crate::adapter::Core;
use crate::check::Stage;
use crate::git::Change;
use crate::world::{Done, World, broken};

impl<C: Core> World<C> {
    /// I8: what lies in `processed/` is what the engine and the shell have in hand.
    pub fn balance(&self) -> Done {
        let Some(life) = &self.life else { return Ok(()) };
        let open = |stage: &Stage| *stage != Stage::Final;
        let runs = life.watch.runs.values().filter(|run| open(&run.stage)).count();
        let unrecorded = life.watch.unrecorded();
        let taken = self.disk.folders.values().filter(|folder| folder.taken).count();
        let recorded = self.disk.folders.values().filter(|folder| folder.recorded).count();
        let known = recorded + runs + unrecorded + life.taken - life.made;
        if life.found && !self.blind && taken != known {
            return broken(format!("I8: {taken} taken, {known} accounted for"));
        }
        Ok(())
    }

    /// Nothing is left to do but what waits for its time.
    pub fn quiet(&self) -> bool {
        let inbox = self.disk.inbox.values().all(|ask| {
            let ask = &self.asks[*ask];
            ask.valid && ask.not_before.is_some_and(|at| at > self.wall())
        });
        inbox
            && self.disk.folders.values().all(|folder| folder.recorded || !folder.taken)
            && (self.git.remote.is_none() || self.git.local.is_empty())
            && self.life.as_ref().is_some_and(|life| life.taken == 0 && life.made == 0)
    }

    /// I1, I2 and I3 over everything that ever was.
    pub fn finish(&mut self) -> Result<(), String> {
        let mut recorded = self.git.recorded();
        recorded.sort();
        let once = recorded.windows(2).all(|pair| pair[0] != pair[1]);
        if !once {
            return Err("I1: a run is recorded twice".into());
        }
        if let Some(id) = self.git.lost() {
            return Err(format!("I1: {id} left the branch and is not in the archive"));
        }
        for (id, folder) in self.disk.folders.iter().filter(|(_, folder)| folder.taken) {
            if recorded.binary_search(id).is_err() {
                return Err(format!("I1: {id} is not recorded: {folder:?}"));
            }
        }
        for (number, ask) in self.asks.iter().enumerate() {
            let runs = self.disk.folders.values().filter(|folder| folder.taken && folder.ask == number).count();
            let waits = self.disk.inbox.get(&ask.name) == Some(&number);
            let dropped = self.git.head.get(&ask.name) == Some(&number) || waits || runs > 0 || ask.gone;
            if runs > 1 {
                return Err(format!("I1: {:?} (#{number}) was taken {runs} times", ask.name));
            }
            let until = self.stopped.unwrap_or(self.wall());
            if waits && ask.not_before.is_none_or(|at| at <= until) {
                return Err(format!("I1: {:?} (#{number}) still lies in the inbox", ask.name));
            }
            if !dropped && !self.unseen(number) {
                return Err(format!("I1: {:?} (#{number}) is lost", ask.name));
            }
        }
        Ok(())
    }

    /// It never reached this clone: withdrawn before it was fetched.
    fn unseen(&self, number: usize) -> bool {
        self.git.remote.iter().flatten().any(|c| matches!(&c.change, Change::Add(_, ask) if *ask == number))
    }
}
