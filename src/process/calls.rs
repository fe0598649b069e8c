//! The system calls that a unit's processes are denied, as a program for the kernel (seccomp(2)).
//!
//! Groups are denied and never lists of what is allowed: a list is right for one version of one C library. A denied call
//! fails with EPERM, as it does for who has not the right. The names and what is in them are systemd's
//! (`systemd-analyze syscall-filter`).

use super::kernel::step;
use crate::model::CallGroup;
use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter};

/// The architecture whose numbers these are (include/uapi/linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the architecture's number, and which calls it has, are not known here");

/// From here on numbers mean x86-64's other interface (x32), which nobody uses.
const OTHER_NUMBERS: u32 = 0x4000_0000;
/// Where in the kernel's `seccomp_data` the number and the architecture stand, in bytes.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// What of a group there is here, by its numbers.
fn numbers(group: CallGroup) -> Vec<c_long> {
    let everywhere: &[c_long] = match group {
        CallGroup::Clock => {
            &[libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_clock_settime, libc::SYS_settimeofday]
        }
        CallGroup::CpuEmulation | CallGroup::Obsolete | CallGroup::RawIo => &[],
        CallGroup::Debug => {
            &[libc::SYS_lookup_dcookie, libc::SYS_perf_event_open, libc::SYS_pidfd_getfd, libc::SYS_ptrace]
        }
        CallGroup::Module => &[libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_init_module],
        CallGroup::Mount => &[
            libc::SYS_chroot,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_umount2,
        ],
        CallGroup::Reboot => &[libc::SYS_kexec_file_load, libc::SYS_kexec_load, libc::SYS_reboot],
        CallGroup::Swap => &[libc::SYS_swapoff, libc::SYS_swapon],
    };
    let mut numbers = everywhere.to_vec();
    #[cfg(target_arch = "x86_64")]
    numbers.extend_from_slice(match group {
        CallGroup::CpuEmulation => &[libc::SYS_modify_ldt],
        CallGroup::Obsolete => &[
            libc::SYS__sysctl,
            libc::SYS_afs_syscall,
            libc::SYS_getpmsg,
            libc::SYS_putpmsg,
            libc::SYS_security,
            libc::SYS_sysfs,
            libc::SYS_tuxcall,
            libc::SYS_uselib,
            libc::SYS_ustat,
            libc::SYS_vserver,
            174, // create_module, get_kernel_syms and query_module, which the binding leaves out
            177,
            178,
        ],
        CallGroup::RawIo => &[libc::SYS_ioperm, libc::SYS_iopl],
        _ => &[],
    });
    numbers
}

/// The program that denies these groups; none where there is nothing to deny. Programs of another architecture (32-bit
/// ones) get no call at all: they would be a way around.
pub(super) fn program(groups: &[CallGroup]) -> Vec<sock_filter> {
    let mut denied: Vec<c_long> = groups.iter().flat_map(|group| numbers(*group)).collect();
    denied.sort_unstable();
    denied.dedup();
    if groups.is_empty() {
        return Vec::new();
    }
    // How many steps from the one at `at` to the last, which denies; all groups together are far below 255.
    let last = denied.len() + 5;
    let to_the_end = |at: usize| u8::try_from(last - at - 1).unwrap_or(u8::MAX);
    let load = BPF_LD | BPF_W | BPF_ABS;
    let mut steps = vec![
        step(load, ARCHITECTURE_AT, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, to_the_end(1)),
        step(load, NUMBER_AT, 0, 0),
        step(BPF_JMP | BPF_JGE | BPF_K, OTHER_NUMBERS, to_the_end(3), 0),
    ];
    for number in denied {
        let to_the_end = to_the_end(steps.len());
        steps.push(step(BPF_JMP | BPF_JEQ | BPF_K, number as u32, to_the_end, 0));
    }
    steps.push(step(BPF_RET | BPF_K, ALLOW, 0, 0));
    steps.push(step(BPF_RET | BPF_K, DENY, 0, 0));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of a call.
    fn run(program: &[sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            let jump = |truth: bool| usize::from(if truth { jt } else { jf });
            if code == BPF_LD | BPF_W | BPF_ABS {
                held = if k == NUMBER_AT { number } else { architecture };
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += jump(held == k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                at += jump(held >= k);
            } else {
                assert_eq!(code, BPF_RET | BPF_K);
                return k;
            }
        }
    }

    #[test]
    fn what_is_in_the_groups_is_denied_and_nothing_else() {
        for count in 1..=CallGroup::ALL.len() {
            let groups = &CallGroup::ALL[..count];
            let program = program(groups);
            let denied: Vec<c_long> = groups.iter().flat_map(|g| numbers(*g)).collect();
            for number in 0..1000 {
                let expected = if denied.contains(&c_long::from(number)) { DENY } else { ALLOW };
                assert_eq!(run(&program, ARCHITECTURE, number as u32), expected, "{number}");
            }
            assert_eq!(run(&program, ARCHITECTURE, OTHER_NUMBERS | 1), DENY);
            assert_eq!(run(&program, 0x4000_0003, 1), DENY, "a 32-bit program");
        }
        assert!(program(&[]).is_empty());
    }

    #[test]
    fn what_every_program_needs_is_in_no_group() {
        let program = program(CallGroup::ALL);
        for number in [
            libc::SYS_execve,
            libc::SYS_rt_sigprocmask,
            libc::SYS_write,
            libc::SYS_exit_group,
            libc::SYS_clone3,
        ] {
            assert_eq!(run(&program, ARCHITECTURE, number as u32), ALLOW);
        }
    }
}
