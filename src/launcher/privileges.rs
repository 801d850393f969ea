//! Who a handler runs as, and the proof that it holds no privilege. Decides by the host's configuration only.

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::protocol::{Setup, Stage, User};
use super::sys;

/// What it takes to run as another user, to kill what that user started and to own and remove its files.
const SWITCHING: [Capability; 6] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
];

fn holds(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// The user that handlers run as, by the configuration and by what this process may do.
pub(super) fn resolve(setup: &Setup) -> Result<User, String> {
    let own = geteuid();
    let may_switch = SWITCHING.into_iter().all(holds);
    let wanted = match &setup.user {
        Some(name) => Some(find(name)?),
        None if may_switch => Some(find("nobody")?),
        None => None,
    };
    let user = match wanted {
        Some(user) if Uid::from_raw(user.uid) != own => User { switch: true, ..user },
        Some(user) => user,
        None => itself(own),
    };
    if user.uid == 0 && !setup.allow_root {
        return Err("handlers would run as `root`; set `sandbox.user` to another user, or `sandbox.allow_root: true`"
            .to_owned());
    }
    if user.switch && !may_switch {
        let (name, me) = (&user.name, itself(own).name);
        return Err(format!(
            "`sandbox.user: {name}` needs a switch of users, and `{me}` may not; start the dispatcher as root, or leave `sandbox.user` out"
        ));
    }
    Ok(user)
}

fn find(name: &str) -> Result<User, String> {
    let found = match name.parse() {
        Ok(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid)),
        Err(_) => nix::unistd::User::from_name(name),
    };
    match found {
        Ok(Some(user)) => Ok(User { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), switch: false }),
        Ok(None) => Err(format!("`sandbox.user: {name}`: this machine has no such user")),
        Err(errno) => Err(format!("`sandbox.user: {name}`: failed to look it up: {}", errno.desc())),
    }
}

fn itself(own: Uid) -> User {
    let name = nix::unistd::User::from_uid(own).ok().flatten().map_or_else(|| own.to_string(), |user| user.name);
    User { name, uid: own.as_raw(), gid: nix::unistd::getegid().as_raw(), switch: false }
}

/// Becomes `user` for good, with no capability in any set and no way to gain one, and proves it by reading it back.
pub(super) fn give_up(user: &User) -> Result<(), (Stage, Errno)> {
    let privileges = |errno| (Stage::Privileges, errno);
    let bounding = holds(Capability::CAP_SETPCAP);
    if bounding {
        sys::drop_bounding().map_err(privileges)?;
    }
    if user.switch {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        let switched = setgroups(&[]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
        switched.map_err(|errno| (Stage::User, errno))?;
    }
    prctl::set_no_new_privs().map_err(privileges)?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|_| privileges(Errno::EPERM))?;
    }
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| privileges(Errno::ENOENT))?;
    if proven(&status, user, bounding) { Ok(()) } else { Err(privileges(Errno::EACCES)) }
}

/// What the kernel says of the process agrees with what was asked for.
fn proven(status: &str, user: &User, bounding: bool) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let zero = |name| field(name).is_some_and(|value| !value.is_empty() && value.bytes().all(|b| b == b'0'));
    let all =
        |name, id: u32| field(name).is_some_and(|value| value.split_whitespace().all(|part| part.parse() == Ok(id)));
    ["CapInh", "CapPrm", "CapEff", "CapAmb"].into_iter().all(zero)
        && (!bounding || zero("CapBnd"))
        && field("NoNewPrivs") == Some("1")
        && all("Uid", user.uid)
        && (!user.switch || (all("Gid", user.gid) && field("Groups") == Some("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t \nNoNewPrivs:\t1\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\n";

    #[test]
    fn one_privilege_left_is_no_proof() {
        let user = User { name: "nobody".into(), uid: 65534, gid: 65534, switch: true };
        assert!(proven(GOOD, &user, true));
        for (from, to) in [
            ("Uid:\t65534\t65534", "Uid:\t65534\t0"),
            ("Gid:\t65534\t65534", "Gid:\t65534\t0"),
            ("Groups:\t ", "Groups:\t0 "),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("CapAmb:\t0", "CapAmb:\t8"),
            ("CapBnd:\t0", "CapBnd:\t1"),
            ("CapEff:\t0000000000000000\n", ""),
        ] {
            assert!(!proven(&GOOD.replace(from, to), &user, true), "{to}");
        }
        assert!(proven(&GOOD.replace("CapBnd:\t0", "CapBnd:\t1"), &user, false), "without CAP_SETPCAP it stays");
    }
}
