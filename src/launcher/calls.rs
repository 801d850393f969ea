//! Which system calls a handler cannot make: those that no handler needs and that holes were found in. They are refused
//! (EPERM), not punished, so that a program that merely tries goes on. Only calls of another processor's or an older kind
//! (32 bits on x86-64) end the process: the numbers here say nothing about them.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Refused, whatever their arguments.
const REFUSED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_setns,
    // Keys of the kernel.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Code in the kernel, and calls with a history of holes.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Programs for the kernel, made once. Of the answers of all programs the strictest counts.
pub(super) struct Filters {
    always: Vec<BpfProgram>,
    no_network: BpfProgram,
}

impl Filters {
    /// `None` on a machine whose calls are not known here.
    pub(super) fn new() -> Option<Self> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
        let mut always = vec![unknown(arch).ok()?, refused(arch).ok()?];
        if cfg!(target_arch = "x86_64") {
            always.push(x32());
        }
        Some(Self { always, no_network: no_network(arch).ok()? })
    }

    /// Holds this process and all that it starts. Needs `no_new_privs`.
    pub(super) fn close(&self, no_network: bool) -> Result<(), Error> {
        let network = no_network.then_some(&self.no_network);
        self.always.iter().chain(network).try_for_each(|program| apply_filter(program))
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(rules: Rules, errno: i32, arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

/// The newer form of `clone` cannot be looked into: whoever is told that it is not there takes the older one.
fn unknown(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    filter(Rules::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS, arch)
}

fn refused(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    // A user namespace would give back what was given up.
    let user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    let makes_one = SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(user), user)?])?;
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![makes_one.clone()]);
    }
    // Typing into the terminal of somebody else.
    let types = |request| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?]);
    rules.insert(libc::SYS_ioctl, vec![types(libc::TIOCSTI)?, types(libc::TIOCLINUX)?]);
    filter(rules, libc::EPERM, arch)
}

/// Sockets of this machine alone: the two kinds that do not leave it.
fn no_network(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let not = |family: libc::c_int| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()));
    let far = SeccompRule::new(vec![not(libc::AF_UNIX)?, not(libc::AF_NETLINK)?])?;
    filter(Rules::from([(libc::SYS_socket, vec![far])]), libc::EAFNOSUPPORT, arch)
}

/// An x86-64 kernel may know all calls a second time, under numbers with this bit; no program needs them. The library
/// compares numbers for equality alone, so this one is written by hand.
fn x32() -> BpfProgram {
    const BIT: u32 = 0x4000_0000;
    let one = |code: u32, jt, jf, k| seccompiler::sock_filter { code: code as u16, jt, jf, k };
    vec![
        // The number is the first word of what is looked at.
        one(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        one(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, BIT),
        one(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        one(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_made_here() {
        let filters = Filters::new().unwrap();
        for program in filters.always.iter().chain([&filters.no_network]) {
            assert!((2..4_096).contains(&program.len()), "the kernel takes no longer ones");
        }
    }
}
