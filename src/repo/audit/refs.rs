//! The dispatcher's own refs: does the remote still hold what was seen of it, was it ever pushed over, is everything
//! there that left the branch. Owns the judgement of I7.

use std::collections::BTreeSet;

use git2::{Oid, Sort};

use super::super::error::{Doing, RepoError};
use super::super::open::Repo;
use super::walk::Step;
use super::{Audit, Breach};
use crate::diagnostic::Diagnostic;
use crate::text;

impl Repo {
    pub(super) fn audit_refs(&self, reachable: &BTreeSet<Oid>, audit: &mut Audit) -> Result<(), RepoError> {
        self.audit_seen(audit)?;
        let kept = self.audit_kept(audit)?;
        self.audit_pushes(reachable, &kept, audit);
        let recorded = std::mem::take(&mut audit.recorded);
        let mut elsewhere = BTreeSet::new();
        let order = self.only_in(&kept, reachable)?;
        self.walk(&order, &mut |step: Step| {
            elsewhere.extend(step.runs.into_iter().filter(|run| run.after.is_some()).map(|run| run.id));
            Ok(())
        })?;
        audit.kept = elsewhere.difference(&recorded).copied().collect();
        audit.recorded = recorded;
        Ok(())
    }

    /// The remote has what was seen of it.
    fn audit_seen(&self, audit: &mut Audit) -> Result<(), RepoError> {
        let (local, remote, seen) = (self.tip()?, self.remote_tip()?, self.target(&self.seen_ref())?);
        let Some(seen) = seen else { return Ok(()) };
        let name = format!("{}/{}", self.settings.remote, self.settings.branch);
        let Some(tip) = remote else {
            audit.breaches.push(rewritten(format!("{name} was deleted; {} was seen there", self.headline(seen))));
            return Ok(());
        };
        if self.target(&self.overrule_ref())? == Some(tip) {
            audit.notes.push(format!("a person decided that {name} is to be replaced by the next push"));
        } else if self.git.find_commit(seen).is_err() || self.is_rewritten(local, tip, Some(seen))? {
            let (was, is) = (self.headline(seen), self.headline(tip));
            audit
                .breaches
                .push(rewritten(format!("{name} was rewritten: {was} was seen there, now it is at {is}")).by(tip));
        } else if !self.contains(tip, seen)? {
            audit.notes.push(format!("{name} went back over results; they are pushed again"));
        }
        Ok(())
    }

    /// Every ref under `refs/dispatcher/kept/` names the commit that it is called after.
    fn audit_kept(&self, audit: &mut Audit) -> Result<Vec<Oid>, RepoError> {
        let mut kept = Vec::new();
        let references = self.git.references_glob("refs/dispatcher/kept/*").doing("list what was kept")?;
        for reference in references {
            let reference = reference.doing("list what was kept")?;
            let name = text::bytes(reference.name_bytes());
            let target = reference.target();
            match target.filter(|oid| name.ends_with(&oid.to_string()) && self.git.find_commit(*oid).is_ok()) {
                Some(oid) => kept.push(oid),
                None => {
                    let at = target.map_or_else(|| "nothing".to_owned(), |oid| format!("`{oid}`"));
                    let problem = Diagnostic::new("E0546", format!("`{name}` is to keep a commit and leads to {at}"))
                        .note("what left the branch may be lost here")
                        .help("git fsck --lost-found     may find it; other clones and backups may have it");
                    let breach = Breach::new("I7", problem);
                    audit.breaches.push(match target {
                        Some(oid) => breach.by(oid),
                        None => breach,
                    });
                }
            }
        }
        Ok(kept)
    }

    /// No push of ours took anything off the remote but what was kept before.
    fn audit_pushes(&self, reachable: &BTreeSet<Oid>, kept: &[Oid], audit: &mut Audit) {
        // Without a reflog nothing is known of earlier pushes.
        let Ok(log) = self.git.reflog(&self.tracking_ref()) else { return };
        for entry in log.iter() {
            let pushed = entry.message_bytes().is_some_and(|message| message.starts_with(b"dispatcher: push"));
            let (old, new) = (entry.id_old(), entry.id_new());
            // What is in the branch has all that it stands on there too; what is nowhere any more tells nothing.
            let extends =
                reachable.contains(&old) || (!reachable.contains(&new) && self.contains(new, old).unwrap_or(true));
            if pushed && old != Oid::ZERO_SHA1 && !extends && !kept.contains(&old) {
                let name = format!("{}/{}", self.settings.remote, self.settings.branch);
                let problem = Diagnostic::new("E0547", format!("a push replaced {} on {name}", self.headline_of(old)))
                    .note(format!("by {}", self.headline_of(new)))
                    .help(format!("git log {old}     shows what it was, where it is still here"));
                audit.breaches.push(Breach::new("I7", problem).by(old));
            }
        }
    }

    fn headline_of(&self, oid: Oid) -> String {
        if self.git.find_commit(oid).is_ok() { self.headline(oid) } else { format!("commit `{oid}`") }
    }

    /// The commits of `tips` that are in no line of `reachable`, parents first.
    fn only_in(&self, tips: &[Oid], reachable: &BTreeSet<Oid>) -> Result<Vec<Oid>, RepoError> {
        let walk = || {
            let mut walk = self.git.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
            tips.iter().try_for_each(|tip| walk.push(*tip))?;
            walk.filter(|oid| oid.as_ref().map_or(true, |oid| !reachable.contains(oid)))
                .collect::<Result<Vec<Oid>, git2::Error>>()
        };
        if tips.is_empty() { Ok(Vec::new()) } else { walk().doing("read what was kept") }
    }
}

fn rewritten(message: String) -> Breach {
    let problem = Diagnostic::new("E0545", message)
        .note("no request starts before a person decides")
        .help("dispatcher resume --accept-remote     or     dispatcher resume --keep-local");
    Breach::new("I7", problem)
}
