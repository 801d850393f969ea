//! A file of lines that never takes more than its share of the disk: `NAME`, `NAME.1` (newest) … `NAME.keep`. Owns
//! rotation and the repair of a torn last line; refuses symlinks. Knows nothing of what the lines say.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much a rotated file may take: at most `size * (keep + 1)` bytes, and one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Bytes of one file.
    pub size: u64,
    /// Older files that are kept beside the live one.
    pub keep: usize,
}

/// Lines that could not be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// How many since the start.
    pub lines: u64,
    /// Why the newest was lost; absent again once a line was written.
    pub error: Option<String>,
}

impl Losses {
    /// Counts the outcome of writing one line.
    pub(crate) fn count(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.error = None,
            Err(error) => {
                self.lines += 1;
                self.error = Some(error.to_string());
            }
        }
    }
}

/// The live file and its older ones.
#[derive(Debug)]
pub struct Rotating {
    path: PathBuf,
    rotate: Rotate,
    file: Option<File>,
}

impl Rotating {
    /// Opens `path` for appending. A torn last line is cut off, and older files beyond `keep` are removed.
    ///
    /// # Errors
    /// What the file system says; a symlink at `path` is an error.
    pub fn open(path: PathBuf, rotate: Rotate) -> io::Result<Self> {
        let mut this = Self { path, rotate, file: None };
        for (number, older) in older_files(&this.path)? {
            if number > rotate.keep {
                fs::remove_file(older)?;
            }
        }
        this.live()?;
        Ok(this)
    }

    /// Appends one line, which ends with a newline. All of it is written or nothing.
    ///
    /// # Errors
    /// What the file system says. The next line is tried anew.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let len = self.live()?.metadata()?.len();
        if len > 0 && len.saturating_add(line.len() as u64) > self.rotate.size {
            self.turn()?;
        }
        append_line(self.live()?, line)
    }

    /// The live file, opened again where somebody removed it.
    fn live(&mut self) -> io::Result<&File> {
        let gone = match &self.file {
            Some(file) => file.metadata()?.nlink() == 0,
            None => true,
        };
        if gone {
            self.file = Some(open_lines(&self.path)?);
        }
        self.file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Moves every file one place up. Killed in between, it leaves a gap in the numbers that the next turn fills.
    fn turn(&mut self) -> io::Result<()> {
        self.file = None;
        if self.rotate.keep == 0 {
            return fs::remove_file(&self.path);
        }
        let gap = (1..self.rotate.keep).find(|&n| !numbered(&self.path, n).exists()).unwrap_or(self.rotate.keep);
        for n in (1..gap).rev() {
            fs::rename(numbered(&self.path, n), numbered(&self.path, n + 1))?;
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The older files of `path` with their numbers, newest first.
pub(super) fn older_files(path: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file_name = entry?.file_name();
        let number = file_name.to_str().and_then(|f| f.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        if let Some(number) = number {
            found.push((number, folder.join(file_name)));
        }
    }
    found.sort();
    Ok(found)
}

/// Opens a regular file for reading and writing, made if need be, and its folder too (but not the folder's folder: that
/// would be a repository that is gone). Never through a symlink.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
    };
    let file = match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(folder)?;
            open()?
        }
        (other, _) => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a regular file", path.display())));
    }
    Ok(file)
}

/// Opens a file of lines and cuts off a torn last one.
pub(super) fn open_lines(path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len();
    let whole = whole_lines(&file, len)?;
    if whole < len {
        file.set_len(whole)?;
    }
    Ok(file)
}

/// Appends at the end; a line that could be written in part only is taken back.
pub(super) fn append_line(file: &File, line: &[u8]) -> io::Result<()> {
    let len = file.metadata()?.len();
    let start = whole_lines(file, len)?;
    file.write_all_at(line, start).inspect_err(|_| {
        // Where even this fails, the next line starts by looking for the end of the last whole one.
        let _ = file.set_len(start);
    })
}

/// The length of the file up to its last newline.
fn whole_lines(file: &File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut block = [0; 4096];
    let mut step = 1;
    while end > 0 {
        let start = end.saturating_sub(step);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
        step = 4096;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_total_is_bounded_and_the_newest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut file = Rotating::open(path.clone(), Rotate { size: 100, keep: 3 }).unwrap();
        for n in 0..200 {
            file.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(names(folder.path()), ["x.log", "x.log.1", "x.log.2", "x.log.3"]);
        let order = ["x.log.3", "x.log.2", "x.log.1", "x.log"];
        let all: String = order.iter().map(|n| fs::read_to_string(folder.path().join(n)).unwrap()).collect();
        assert!(all.len() <= 400, "{}", all.len());
        let numbers: Vec<u32> = all.lines().map(|l| l[5..].parse().unwrap()).collect();
        let last = u32::try_from(200 - numbers.len()).unwrap();
        assert_eq!(numbers, (last..200).collect::<Vec<_>>());

        drop(Rotating::open(path.clone(), Rotate { size: 100, keep: 1 }).unwrap());
        assert_eq!(names(folder.path()), ["x.log", "x.log.1"], "fewer are kept after a change");

        let mut none = Rotating::open(path, Rotate { size: 20, keep: 0 }).unwrap();
        none.append(b"the only one now, and long\n").unwrap();
        none.append(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("x.log")).unwrap(), "next\n");
    }

    #[test]
    fn a_gap_in_the_numbers_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "live\n").unwrap();
        fs::write(numbered(&path, 2), "older\n").unwrap();
        Rotating::open(path.clone(), Rotate { size: 6, keep: 2 }).unwrap().append(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(numbered(&path, 1)).unwrap(), "live\n");
        assert_eq!(fs::read_to_string(numbered(&path, 2)).unwrap(), "older\n");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_tears() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let whole = "one\ntwo\nthree\n";
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            Rotating::open(path.clone(), Rotate { size: 1000, keep: 1 }).unwrap().append(b"next\n").unwrap();
            let kept = whole[..len].rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}next\n", &whole[..kept]));
        }
        fs::write(&path, "x".repeat(10_000)).unwrap();
        Rotating::open(path.clone(), Rotate { size: 1000, keep: 1 }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "one long torn line");
    }

    #[test]
    fn a_removed_file_comes_back_and_a_symlink_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let path = logs.join("x");
        let mut file = Rotating::open(path.clone(), Rotate { size: 1000, keep: 1 }).unwrap();
        fs::remove_dir_all(&logs).unwrap();
        file.append(b"again\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "again\n");

        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Rotating::open(link, Rotate { size: 1000, keep: 1 }).is_err());
    }
}
