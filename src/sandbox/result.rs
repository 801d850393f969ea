//! Reads what a handler left in `$DISPATCH_RESULT`.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::own;
use crate::diagnostic::Diagnostic;
use crate::text;

/// Largest result.
const LIMIT: u64 = 64 << 10;

/// Reads the result file, which has to belong to `uid`; `None` where it is absent or empty.
///
/// # Errors
/// E0605 where it is no regular file with one name, is too large, or holds no JSON object.
pub fn read_result(path: &Path, uid: u32) -> Result<Option<Value>, Box<Diagnostic>> {
    let refuse = |why: &str| {
        Box::new(
            Diagnostic::new("E0605", format!("the handler's result {why}"))
                .help("write one JSON object of up to 64 KiB to the path in `$DISPATCH_RESULT`"),
        )
    };
    let file = match own::open(path, uid) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(why) => return Err(refuse(&why.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|e| refuse(&format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > LIMIT {
        return Err(refuse("is larger than 64 KiB"));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(object @ Value::Object(_)) => Ok(Some(object)),
        Ok(_) => Err(refuse("is JSON, but not an object")),
        Err(e) => Err(refuse(&format!("is not JSON: {}", text::line(&e.to_string())))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(bytes: &[u8], expect: Result<Option<Value>, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        fs::write(&path, bytes).unwrap();
        compare(read_result(&path, nix::unistd::geteuid().as_raw()), expect);
    }

    fn compare(got: Result<Option<Value>, Box<Diagnostic>>, expect: Result<Option<Value>, &str>) {
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect),
            (Err(got), Err(expect)) => {
                assert_eq!(got.code, "E0605");
                assert!(got.message.contains(expect), "{}", got.message);
            }
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn only_an_object_is_a_result() {
        check(b"", Ok(None));
        check(b"{\"a\": [1]}\n", Ok(Some(serde_json::json!({"a": [1]}))));
        check(b"[1]", Err("not an object"));
        check(b"{\"a\": ", Err("not JSON"));
        check(b"\xff", Err("not JSON"));
        check(&b"[".repeat(60_000), Err("not JSON"));
        check(&[b"{\"a\": \"".as_slice(), &b"x".repeat(64 << 10), b"\"}"].concat(), Err("larger than 64 KiB"));
    }

    #[test]
    fn only_a_file_of_its_own_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("real"), "{}").unwrap();
        std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        compare(read_result(&at("link"), uid), Err("symlink"));
        compare(read_result(&at("fifo"), uid), Err("not a regular file"));
        compare(read_result(dir.path(), uid), Err("not a regular file"));
        compare(read_result(Path::new("/dev/zero"), uid), Err("not a regular file"));
        compare(read_result(&at("absent"), uid), Ok(None));
        compare(read_result(&at("real"), uid + 1), Err("not a file of its own"));
        compare(read_result(&at("real"), uid), Ok(Some(serde_json::json!({}))));
        fs::hard_link(at("real"), at("second")).unwrap();
        compare(read_result(&at("second"), uid), Err("not a file of its own"));
    }
}
