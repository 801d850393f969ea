//! Reads the value of one secret from where the configuration says it is.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::SecretSource;
use crate::diagnostic::Diagnostic;
use crate::mask::SHORTEST;
use crate::secret::SecretValue;
use crate::text;

/// Largest value, in bytes: one variable of a process cannot hold more than twice this.
const LARGEST: usize = 64 << 10;
/// Bits of a mode that let in more people than the owner and readers of the group.
const TOO_OPEN: u32 = 0o037;

/// Reads the value, byte for byte.
///
/// # Errors
/// E0610, without a byte of the value.
pub(super) fn read(name: &str, source: &SecretSource) -> Result<SecretValue, Diagnostic> {
    let (read, at) = match source {
        SecretSource::File(path) => (from_file(path), format!("file `{}`", path.display())),
        SecretSource::Env(variable) => (from_variable(variable), format!("variable `{variable}`")),
        SecretSource::Credential(credential) => (from_credential(credential), format!("credential `{credential}`")),
    };
    let fit = read.and_then(|bytes| judged(bytes).map_err(|(what, help)| (what.to_owned(), help.to_owned())));
    fit.map_err(|(what, help)| {
        Diagnostic::new("E0610", text::line(&format!("secret `{name}` from {at} cannot be used: {what}"))).help(help)
    })
}

type Refusal = (String, String);

/// The value without the newline that a text file ends with.
pub(super) fn line(bytes: &[u8]) -> &[u8] {
    let Some(line) = bytes.strip_suffix(b"\n") else { return bytes };
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn judged(mut bytes: Zeroizing<Vec<u8>>) -> Result<SecretValue, (&'static str, &'static str)> {
    if bytes.len() > LARGEST {
        return Err(("it is larger than 64 KiB", "give the handler a smaller one that unlocks the rest"));
    }
    let shown = line(&bytes);
    let characters = std::str::from_utf8(shown).map_or(shown.len(), |text| text.chars().count());
    if characters < SHORTEST {
        return Err(("it has fewer than 8 characters, so it could not be masked", "use a longer one"));
    }
    Ok(SecretValue::from(std::mem::take(&mut *bytes)))
}

fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let said = |error: io::Error| (error.to_string(), "look at `secrets` in the host configuration".to_owned());
    // Not blocking, because it may be a FIFO. Links are followed: the path is the administrator's.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(said)?;
    let meta = file.metadata().map_err(said)?;
    let owner = nix::unistd::geteuid().as_raw();
    if !meta.is_file() {
        return Err(("it is not a regular file".to_owned(), "name a file that holds the value".to_owned()));
    }
    if meta.uid() != owner && meta.uid() != 0 {
        let what = format!("it belongs to user {}, who could change it", meta.uid());
        return Err((what, format!("chown root {0}     or to the dispatcher's user, {owner}", path.display())));
    }
    if meta.mode() & TOO_OPEN != 0 {
        let what = format!("its mode {:04o} lets in too many people", meta.mode() & 0o7777);
        return Err((what, format!("chmod 0600 {0}     or 0640", path.display())));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST + 2));
    file.take(LARGEST as u64 + 2).read_to_end(&mut bytes).map_err(said)?;
    Ok(bytes)
}

fn from_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let value = env::var_os(name).ok_or_else(|| {
        ("it is not set".to_owned(), "set it in the dispatcher's environment and start it again".to_owned())
    })?;
    Ok(Zeroizing::new(value.as_bytes().to_vec()))
}

fn from_credential(name: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        let what = "`CREDENTIALS_DIRECTORY` is not set: systemd has given no credentials".to_owned();
        (what, format!("in the unit: LoadCredential={name}:/path/of/the/file"))
    })?;
    from_file(&Path::new(&folder).join(name))
}
