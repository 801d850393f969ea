//! The host's secrets: their values, read again at every run; which kind may have which; and the one mask of all of them.
//! Refuses files that others may read, values that cannot be masked, and kinds that are not on a secret's list.
//!
//! The mask covers every secret of the host, whoever asked for it, and of each the values that it had lately: a run that
//! began before a rotation still holds the old one.

mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Secret, SecretSource};
use crate::diagnostic::Diagnostic;
use crate::mask::Mask;
use crate::request::Kind;
use crate::secret::SecretValue;

/// Older values of one secret that are still masked.
const REMEMBERED: usize = 16;

/// All secrets of the host. Shared by reference between threads.
#[derive(Debug, Default)]
pub struct Vault(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    configured: BTreeMap<String, Secret>,
    /// By name, the newest value last. Secrets that are not configured any more stay masked.
    known: BTreeMap<String, Vec<SecretValue>>,
    mask: Arc<Mask>,
}

impl Vault {
    /// A vault without values.
    #[must_use]
    pub fn new(configured: BTreeMap<String, Secret>) -> Self {
        Self(Mutex::new(Inner { configured, ..Inner::default() }))
    }

    /// Takes over another list of secrets.
    pub fn configure(&self, configured: BTreeMap<String, Secret>) {
        self.lock().configured = configured;
    }

    /// Reads every secret, so that it is masked also before a run has asked for it; what cannot be read is returned.
    #[must_use]
    pub fn read_all(&self) -> Vec<Diagnostic> {
        let configured = self.lock().configured.clone();
        let (mut values, mut problems) = (Vec::new(), Vec::new());
        for (name, secret) in &configured {
            match source::read(name, &secret.source) {
                Ok(value) => values.push((name.clone(), value)),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.lock().remember(values).err());
        problems
    }

    /// Whether handlers of `kind` may have these secrets. Reads no value.
    ///
    /// # Errors
    /// E0609, naming what to add where.
    pub fn allows(&self, kind: &Kind, names: &[String]) -> Result<(), Box<Diagnostic>> {
        let inner = self.lock();
        names.iter().try_for_each(|name| inner.secret(kind, name).map(drop)).map_err(Box::new)
    }

    /// The values of these secrets as they are now: for files byte for byte, for variables without the newline that a
    /// text file ends with. From here on they are masked.
    ///
    /// # Errors
    /// E0609 where the kind may not have one, E0610 where one cannot be used.
    pub fn take(
        &self,
        kind: &Kind,
        names: &[String],
        as_files: bool,
    ) -> Result<Vec<(String, SecretValue)>, Box<Diagnostic>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let sources: Vec<SecretSource> = {
            let inner = self.lock();
            let found = names.iter().map(|name| inner.secret(kind, name).map(|secret| secret.source.clone()));
            found.collect::<Result<_, _>>().map_err(Box::new)?
        };
        let mut values = Vec::with_capacity(names.len());
        for (name, source) in names.iter().zip(&sources) {
            let value = source::read(name, source).map_err(Box::new)?;
            if !as_files && value.expose().contains(&0) {
                let what = format!("secret `{name}` cannot be used: no variable can hold its zero byte");
                let problem = Diagnostic::new("E0610", what);
                return Err(Box::new(problem.help("handlers/index.yml: `secrets_as: file` gives it as a file")));
            }
            values.push((name.clone(), if as_files { value } else { without_newline(&value) }));
        }
        self.lock().remember(values.clone()).map_err(Box::new)?;
        Ok(values)
    }

    /// The mask of all values.
    #[must_use]
    pub fn mask(&self) -> Arc<Mask> {
        Arc::clone(&self.lock().mask)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_newline(value: &SecretValue) -> SecretValue {
    SecretValue::from(source::line(value.expose()).to_vec())
}

impl Inner {
    fn secret(&self, kind: &Kind, name: &str) -> Result<&Secret, Diagnostic> {
        let refuse =
            |what: String, help: String| Diagnostic::new("E0609", what).note("it was not run without").help(help);
        let Some(secret) = self.configured.get(name) else {
            let what = format!("handler `{kind}` asks for secret `{name}`, and this host has none of that name");
            return Err(refuse(what, format!("host configuration: secrets: {{{name}: {{file: …, kinds: [{kind}]}}}}")));
        };
        if !secret.kinds.contains(kind) {
            let what = format!("handler `{kind}` asks for secret `{name}`, and handlers of this kind may not have it");
            return Err(refuse(what, format!("host configuration: add `{kind}` to `secrets.{name}.kinds`")));
        }
        Ok(secret)
    }

    /// Adds values to what is masked. Where that cannot be done, nothing has changed.
    fn remember(&mut self, values: Vec<(String, SecretValue)>) -> Result<(), Diagnostic> {
        let mut known = self.known.clone();
        let mut changed = false;
        for (name, value) in values {
            // With it, a marker would swallow the newline behind a value.
            let value = without_newline(&value);
            let list = known.entry(name).or_default();
            if list.last() != Some(&value) {
                // One that came back is the newest again.
                list.retain(|old| *old != value);
                list.push(value);
                list.drain(..list.len().saturating_sub(REMEMBERED));
                changed = true;
            }
        }
        if changed {
            let mask = Mask::new(known.values().flatten().map(SecretValue::expose));
            let mask = mask.map_err(|error| Diagnostic::new("E0610", error.to_string()))?;
            (self.known, self.mask) = (known, Arc::new(mask));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
