//! Real processes: started, watched, stopped, found again.

mod processes;

use clusterd::facts::Exit;
use clusterd::model::{CgroupLimits, RunKind};
use clusterd::process::{Handle, Lost, Stage, Tree, become_subreaper, reap_orphans};
use processes::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn ended(handle: &Handle) -> Exit {
    assert!(handle.wait(SOON).unwrap(), "{handle:?} does not end");
    handle.reap().expect("it has ended")
}

#[test]
fn a_program_runs_and_its_exit_code_is_heard() {
    let yard = Yard::new();
    let handle = yard.spawn(&shell("echo to stdout; echo to stderr >&2; exit 7")).unwrap();
    assert_eq!(ended(&handle), Exit::Code(7));
    assert_eq!(yard.output(), "to stdout\nto stderr\n");
    assert!(!handle.is_alive());
    assert_eq!(handle.reap(), Some(Exit::Unknown), "a second reap has nothing left to hear");
}

#[test]
fn the_environment_is_small_and_known() {
    let yard = Yard::new();
    let mut unit = unit(&["/usr/bin/env"]);
    unit.run.environment.insert("LANG".into(), "de_DE.UTF-8".into());
    unit.run.environment.insert("CLUSTERD_NONCE".into(), "forged".into());
    ended(&yard.spawn(&unit).unwrap());
    let output = yard.output();
    let names: Vec<_> = output.lines().map(|l| l.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["CLUSTERD_AGENT", "CLUSTERD_INSTANCE", "CLUSTERD_NONCE", "LANG", "PATH"]);
    assert!(output.contains("LANG=de_DE.UTF-8\n") && output.contains("CLUSTERD_NONCE=n1\n"), "{output}");
}

#[test]
fn the_child_starts_clean() {
    let yard = Yard::new();
    let script = "pwd; umask; ls /proc/self/fd | tr '\\n' ' '; ps -o sid= -p $$; \
                  exec grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let mut unit = shell(script);
    unit.run.folder = "/tmp".into();
    unit.run.umask = 0o027;
    // A descriptor that is not closed on exec must not reach the service.
    let leak = std::fs::File::open("/dev/null").unwrap();
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let handle = yard.spawn(&unit).unwrap();
    ended(&handle);
    let output = yard.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "/tmp");
    assert_eq!(lines[1], "0027");
    let (descriptors, session) = lines[2].rsplit_once(' ').unwrap();
    assert_eq!(descriptors.trim(), "0 1 2 3", "3 is ls's own");
    assert_eq!(session, handle.pid().to_string(), "it leads its own session");
    assert_eq!(lines[3], "SigBlk:\t0000000000000000");
    assert_eq!(lines[4], "SigIgn:\t0000000000000000", "SIGPIPE neither, which Rust ignores");
}

#[test]
fn each_failure_says_its_stage() {
    let yard = Yard::new();
    type Spoil = fn(&mut clusterd::model::Unit);
    let cases: [(Spoil, Stage, &str); 7] = [
        (
            |u| u.run.command = vec!["/nowhere/redis-server".into()],
            Stage::Exec,
            "cannot start /nowhere/redis-server: cannot execute it: No such file or directory (os error 2)",
        ),
        (
            |u| u.run.command = vec!["/etc/passwd".into()],
            Stage::Exec,
            "cannot start /etc/passwd: cannot execute it: Permission denied (os error 13)",
        ),
        (
            |u| u.run.folder = "/nowhere".into(),
            Stage::Folder,
            "cannot start /bin/true: cannot enter its working folder (/nowhere): No such file or directory (os error 2)",
        ),
        (
            |u| u.run.user = Some("nobody-here".into()),
            Stage::Lookup,
            "cannot start /bin/true: cannot look up its user (nobody-here): there is no such user",
        ),
        (
            |u| u.run.group = Some("no-group".into()),
            Stage::Lookup,
            "cannot start /bin/true: cannot look up its user (no-group): there is no such group",
        ),
        (
            |u| u.run.make_folders = vec!["/proc/nope".into()],
            Stage::Folders,
            "cannot start /bin/true: cannot make its folders (/proc/nope): No such file or directory (os error 2)",
        ),
        (
            |u| u.run.command.push("a\0b".into()),
            Stage::Arguments,
            "cannot start /bin/true: cannot prepare its arguments: invalid input parameter",
        ),
    ];
    for (spoil, stage, text) in cases {
        let mut unit = unit(&["/bin/true"]);
        spoil(&mut unit);
        let error = yard.spawn(&unit).unwrap_err();
        assert_eq!((error.stage, error.to_string().as_str()), (stage, text));
    }
    assert_eq!(yard.tree.members(&yard.instance).unwrap(), [0i32; 0], "nothing of a failed start is left");
}

#[test]
fn an_output_that_cannot_be_opened_is_a_stage_too() {
    let yard = Yard::new();
    std::fs::create_dir(yard.path("output.log")).unwrap();
    assert_eq!(yard.spawn(&unit(&["/bin/true"])).unwrap_err().stage, Stage::Output);
}

#[test]
fn the_user_is_switched_with_all_its_groups_and_folders_are_made_for_it() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        return;
    }
    let yard = Yard::new();
    std::fs::set_permissions(yard.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut unit = shell("id -u; id -G; echo $HOME; touch \"$1\"/mine && echo written");
    let folder = yard.path("run/thing");
    unit.run.command.extend(["sh".into(), folder.display().to_string()]);
    unit.run.user = Some("nobody".into());
    unit.run.make_folders = vec![folder.clone()];
    assert_eq!(ended(&yard.spawn(&unit).unwrap()), Exit::Code(0));
    assert_eq!(yard.output(), "65534\n65534\n/nonexistent\nwritten\n");
    assert_eq!(std::fs::metadata(&folder).unwrap().uid(), 65534);
    assert_eq!(std::fs::metadata(folder.parent().unwrap()).unwrap().uid(), 0, "parents stay root's");
}

#[test]
fn a_signal_reaches_the_process_and_names_its_death() {
    let yard = Yard::new();
    let handle = yard.spawn(&unit(&["/bin/sleep", "1000"])).unwrap();
    assert!(handle.is_alive());
    assert_eq!(handle.reap(), None);
    assert!(handle.signal(libc::SIGTERM).unwrap());
    assert_eq!(ended(&handle), Exit::Signal(libc::SIGTERM));
    assert!(!handle.signal(libc::SIGTERM).unwrap(), "one that is gone is no error");
}

#[test]
fn the_exit_is_waited_for_without_blocking() {
    let yard = Yard::new();
    let handle = yard.spawn(&unit(&["/bin/sleep", "1000"])).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let exited = handle.exited();
        tokio::select! {
            biased;
            _ = async { tokio::task::yield_now().await } => {}
            _ = handle.exited() => panic!("it lives"),
        }
        handle.signal(libc::SIGKILL).unwrap();
        tokio::time::timeout(SOON, exited).await.unwrap().unwrap();
        assert_eq!(handle.reap(), Some(Exit::Signal(libc::SIGKILL)));
        tokio::time::timeout(SOON, handle.exited()).await.unwrap().unwrap(); // and again after the reaping
    });
}

#[test]
fn the_next_agent_adopts_what_was_written_down() {
    let yard = Yard::new();
    let first = yard.spawn(&unit(&["/bin/sleep", "1000"])).unwrap();
    let written = serde_json::to_string(first.identity()).unwrap();
    let known = serde_json::from_str(&written).unwrap();
    let second = Handle::adopt(&known).unwrap();
    assert!(second.identity().is_same(first.identity()));
    assert_eq!(second.identity().exe, first.identity().exe);
    second.signal(libc::SIGKILL).unwrap();
    assert_eq!(ended(&first), Exit::Signal(libc::SIGKILL));
    assert!(matches!(Handle::adopt(&known), Err(Lost::Gone(_))));
}

#[test]
fn a_number_that_was_reused_or_is_of_another_boot_is_not_adopted() {
    let yard = Yard::new();
    let handle = yard.spawn(&unit(&["/bin/sleep", "1000"])).unwrap();
    let mut reused = handle.identity().clone();
    reused.start -= 1;
    assert!(matches!(Handle::adopt(&reused), Err(Lost::SomebodyElse { .. })));
    for change in [
        |b: &mut clusterd::process::Boot| b.boot_id = "another".into(),
        |b: &mut clusterd::process::Boot| b.pid_ns += 1,
        |b: &mut clusterd::process::Boot| b.init_start += 1,
    ] {
        let mut known = handle.identity().clone();
        change(&mut known.boot);
        assert!(matches!(Handle::adopt(&known), Err(Lost::OtherBoot(_))));
    }
    assert!(handle.is_alive());
}

#[test]
fn a_zombie_and_a_thread_are_not_held() {
    let yard = Yard::new();
    let handle = yard.spawn(&unit(&["/bin/true"])).unwrap();
    assert!(handle.wait(SOON).unwrap()); // dead, not reaped
    assert!(!handle.is_alive());
    assert!(matches!(Handle::open(handle.pid()), Err(Lost::Gone(_))));
    assert_eq!(handle.reap(), Some(Exit::Code(0)));

    let (tell, hear) = std::sync::mpsc::channel();
    let (stop, until) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        let _ = until.recv();
    });
    assert!(matches!(Handle::open(hear.recv().unwrap()), Err(Lost::Thread(_))));
    drop(stop);
    thread.join().unwrap();
}

/// A daemon that forks itself away into its own session, writes its pid file, and stays.
fn daemonising(pidfile: &Path) -> clusterd::model::Unit {
    let mut unit =
        shell("setsid sh -c 'echo $$ > \"$0\".new; mv \"$0\".new \"$0\"; exec sleep 1000' \"$0\" & exit 0");
    unit.run.command.push(pidfile.display().to_string());
    unit.run.kind = RunKind::Forking;
    unit
}

fn both_nets() -> [Yard; 2] {
    [Yard::new(), Yard::with(Tree::marks_only(&tag()))]
}

#[test]
fn a_daemon_that_forks_away_is_followed() {
    for yard in both_nets() {
        let pidfile = yard.path("thing.pid");
        let mut unit = daemonising(&pidfile);
        unit.run.pidfile = Some(pidfile.clone());
        let launcher = yard.spawn(&unit).unwrap();
        assert_eq!(ended(&launcher), Exit::Code(0));
        let main = wait_for("the main process", || yard.tree.find_main(&unit, &yard.instance));
        assert_eq!(main.pid().to_string(), wait_for_line(&pidfile));

        unit.run.pidfile = None;
        let found = wait_for("one process", || yard.tree.find_main(&unit, &yard.instance));
        assert!(found.identity().is_same(main.identity()), "without a pid file it is the only one left");

        unit.run.pidfile = Some(yard.path("never"));
        let reason = yard.tree.find_main(&unit, &yard.instance).unwrap_err().to_string();
        assert_eq!(reason, format!("it has not written {} yet", yard.path("never").display()));

        std::fs::write(&pidfile, "1\n").unwrap();
        unit.run.pidfile = Some(pidfile.clone());
        let reason = yard.tree.find_main(&unit, &yard.instance).unwrap_err().to_string();
        assert!(reason.ends_with("and does not descend from this start"), "{reason}");
    }
}

#[test]
fn the_whole_tree_is_found_and_killed() {
    for yard in both_nets() {
        // The launcher dies; its children have forked twice, into sessions of their own.
        let script = "for i in 1 2 3; do (setsid sh -c 'sleep 1000 & sleep 1000 & wait' &) ; done; echo $$";
        ended(&yard.spawn(&shell(script)).unwrap());
        let members = wait_for("nine processes", || match yard.tree.members(&yard.instance) {
            Ok(m) if m.len() == 9 => Ok(m),
            other => Err(other),
        });
        let stranger = yard.spawn_as(&unit(&["/bin/sleep", "1000"]), "other@here").unwrap();

        let marked = yard.tree.find_marked().unwrap();
        assert_eq!(marked.iter().filter(|m| m.instance == yard.instance).count(), members.len());
        assert!(marked.iter().all(|m| m.nonce.as_deref() == Some("n1")), "{marked:?}");

        let told = yard.tree.kill_all(&yard.instance).unwrap();
        assert_eq!(told.len(), 9);
        for handle in &told {
            assert!(handle.wait(SOON).unwrap());
        }
        assert_eq!(yard.tree.members(&yard.instance).unwrap(), [0i32; 0]);
        assert!(stranger.is_alive(), "the neighbour is not touched");
        stranger.signal(libc::SIGKILL).unwrap();
        ended(&stranger);
    }
}

#[test]
fn a_leaf_is_made_filled_and_removed() {
    let yard = Yard::new();
    if let Some(reason) = yard.tree.without_cgroups() {
        assert!(std::env::var_os("CI").is_none(), "this test needs cgroup v2: {reason}");
        return;
    }
    let mut unit = unit(&["/usr/bin/env", "-i", "/bin/sleep", "1000"]); // it loses its marks
    unit.run.folder = "/tmp".into();
    let handle = yard.spawn(&unit).unwrap();
    assert_eq!(yard.tree.leaf_members(&yard.instance).unwrap(), [handle.pid()]);
    assert!(yard.tree.is_member(handle.pid(), &yard.instance));
    assert!(!yard.tree.is_member(handle.pid(), "other@here"));
    assert!(!yard.tree.remove_leaf(&yard.instance).unwrap(), "populated");
    assert_eq!(yard.tree.kill_all(&yard.instance).unwrap().len(), 1);
    ended(&handle);
    assert!(yard.tree.remove_leaf(&yard.instance).unwrap());
    assert!(yard.tree.remove_leaf(&yard.instance).unwrap(), "gone already");
    assert_eq!(yard.tree.leaf_members(&yard.instance).unwrap(), [0i32; 0]);
    for bad in ["../../x@y", "redis", "a/b@c", "@", "x@..", ""] {
        assert_eq!(
            yard.tree.leaf(bad, &CgroupLimits::default()).unwrap_err().kind(),
            std::io::ErrorKind::InvalidInput,
            "{bad}"
        );
    }
}

/// On Linux 6.18 whoever is born in a cgroup that was once killed is killed too.
#[test]
fn a_leaf_serves_again_until_all_in_it_were_killed() {
    let yard = Yard::new();
    if yard.tree.without_cgroups().is_some() {
        return;
    }
    let sleeper = unit(&["/bin/sleep", "1000"]);
    let start = || {
        let handle = yard.spawn(&sleeper).unwrap();
        assert_eq!(yard.tree.leaf_members(&yard.instance).unwrap(), [handle.pid()]);
        let leaf = yard.tree.leaf(&yard.instance, &CgroupLimits::default()).unwrap().unwrap();
        (handle, leaf.path().to_owned(), std::fs::metadata(leaf.path()).unwrap().ino())
    };
    let (first, leaf, made) = start();
    first.signal(libc::SIGKILL).unwrap();
    ended(&first);
    let (second, _, again) = start();
    assert_eq!(again, made, "it is the same one");
    std::fs::write(leaf.join("cgroup.kill"), "1").unwrap();
    ended(&second);
    let (third, _, _) = start();
    assert_eq!(yard.tree.kill_all(&yard.instance).unwrap().len(), 1);
    ended(&third);
    let (fourth, _, anew) = start();
    assert_ne!(anew, made);
    std::fs::create_dir(leaf.join("below")).unwrap();
    fourth.signal(libc::SIGKILL).unwrap();
    ended(&fourth);
    let (last, _, _) = start();
    assert!(!leaf.join("below").exists(), "what a service makes in it goes with it");
    yard.tree.kill_all(&yard.instance).unwrap();
    ended(&last);
    assert!(yard.tree.remove_leaf(&yard.instance).unwrap());
}

#[test]
fn orphans_come_to_the_subreaper_and_only_the_unheld_are_reaped() {
    become_subreaper().unwrap();
    let yard = Yard::new();
    // Two daemons fork away from a launcher that exits; both come to us and die when told to.
    let script = "for i in 1 2; do (setsid sleep 1000 &) ; done";
    ended(&yard.spawn(&shell(script)).unwrap());
    let me = std::process::id();
    let handles: Vec<Handle> = wait_for("two orphans of ours", || {
        let all = yard.tree.members(&yard.instance).unwrap();
        let ours = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|s| s.contains("(sleep)") && s.split(' ').nth(3) == Some(&me.to_string()))
        };
        if all.len() == 2 && all.iter().all(ours) {
            Ok(all.into_iter().map(|p| Handle::open(p).unwrap()).collect())
        } else {
            Err(all)
        }
    });
    for handle in &handles {
        handle.signal(libc::SIGUSR1).unwrap();
        assert!(handle.wait(SOON).unwrap());
    }
    // Other tests run in this process too: everything but our second one is theirs.
    let unheld = handles[1].pid();
    assert_eq!(reap_orphans(&|pid| pid != unheld), 1);
    assert_eq!(handles[0].reap(), Some(Exit::Signal(libc::SIGUSR1)), "the held one's end can still be heard");
    assert_eq!(handles[1].reap(), Some(Exit::Unknown));
}

#[test]
fn care_is_in_force_when_the_program_begins() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        return;
    }
    use clusterd::model::{Bounds, Capability, EnvironmentFile, Resource};
    let yard = Yard::new();
    std::fs::write(yard.path("env"), "# kept\nWORD='two words'\n").unwrap();
    let script = "echo $WORD; id -G; nice; cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn; \
                  grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status | tr -d '\\t'";
    let mut unit = shell(script);
    unit.run.user = Some("nobody".into());
    let care = &mut unit.run.care;
    care.groups = Some(vec!["games".into()]);
    care.environment_files = vec![
        EnvironmentFile { path: yard.path("env"), optional: false },
        EnvironmentFile { path: yard.path("missing"), optional: true },
    ];
    care.limits.insert(Resource::Nofile, Bounds { soft: 100, hard: 200 });
    (care.nice, care.oom_score_adjust, care.no_new_privileges) = (Some(5), Some(321), true);
    care.capabilities = Some(vec![Capability::from_name("CAP_NET_BIND_SERVICE").unwrap()]);
    let own_score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    ended(&yard.spawn(&unit).unwrap());
    let only = "0000000000000400";
    let caps = ["CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| format!("{set}:{only}\n")).concat();
    let expected = format!("two words\n65534 60\n5\n321\n100\n200\n{caps}NoNewPrivs:1\n");
    assert_eq!(yard.output(), expected);
    assert_eq!(
        std::fs::read_to_string("/proc/self/oom_score_adj").unwrap(),
        own_score,
        "the agent's own stays"
    );

    std::fs::write(yard.path("env"), "A=1\nexport B=hush\n").unwrap();
    let error = yard.spawn(&unit).unwrap_err();
    assert_eq!(error.stage, Stage::Environment);
    assert!(error.to_string().contains("line 2") && !error.to_string().contains("hush"), "{error}");
}

/// Each group is asked for by something that fails otherwise without it.
#[test]
fn a_service_is_denied_the_system_calls_that_its_unit_says() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        return;
    }
    use clusterd::model::CallGroup;
    let yard = Yard::new();
    let script = "chroot / true 2>&1; swapoff /none 2>&1; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'; \
                  cat /proc/self/status | sh -c 'sed -n s/^Name/still/p'";
    let tries = |denied: &[CallGroup]| {
        let mut unit = shell(script);
        unit.run.care.system_call_filter = denied.to_vec();
        unit.run.care.no_new_privileges = !denied.is_empty();
        let before = yard.output().len();
        ended(&yard.spawn(&unit).unwrap());
        yard.output()[before..].to_owned()
    };
    let free = tries(&[]);
    assert!(!free.contains("chroot") && free.contains("No such file"), "{free}");
    assert!(free.contains("NoNewPrivs:0\nSeccomp:0\n"), "{free}");
    let mount = tries(&[CallGroup::Mount]);
    assert!(mount.contains("cannot change root directory to '/': Operation not permitted"), "{mount}");
    assert!(mount.contains("No such file"), "swapoff is in another group: {mount}");
    let all = tries(CallGroup::ALL);
    assert!(all.contains("Operation not permitted") && all.contains("Not superuser"), "{all}");
    assert!(all.contains("NoNewPrivs:1\nSeccomp:2\n") && all.contains("still"), "{all}");
    // The agent itself, whose memory the child had, is denied nothing.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("NoNewPrivs:\t0\nSeccomp:\t0\n"), "{own}");
}

#[test]
fn a_service_sees_what_its_unit_says() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        return;
    }
    use clusterd::model::{ProtectHome, ProtectSystem};
    let yard = Yard::new();
    let (open, shut) = (yard.path("open"), yard.path("open/shut"));
    std::fs::create_dir_all(&shut).unwrap();
    let tries = |paths: &[&str]| {
        let tries =
            paths.iter().map(|p| format!("touch {p}/.seen 2>/dev/null && echo yes {p} || echo no {p}; "));
        tries.collect::<String>()
    };
    let name = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let paths = ["/usr", "/etc", "/run", &name(&open), &name(&shut), "/dev/shm"];
    let seen = |strict: ProtectSystem, home: ProtectHome, user: Option<&str>| {
        let mut unit = shell(&format!("{} ls -A /root | wc -l; rm -f /dev/shm/.seen", tries(&paths)));
        unit.run.user = user.map(str::to_owned);
        let sight = &mut unit.run.care.sight;
        (sight.protect_system, sight.protect_home) = (strict, home);
        sight.read_write_paths = vec![open.clone()];
        sight.read_only_paths = vec![shut.clone()];
        let before = yard.output().len();
        ended(&yard.spawn(&unit).unwrap());
        yard.output()[before..].replace(&name(&open), "OPEN")
    };
    let full = seen(ProtectSystem::Full, ProtectHome::No, None);
    assert!(full.starts_with("no /usr\nno /etc\nyes /run\nyes OPEN\nno OPEN/shut\nyes /dev/shm\n"), "{full}");
    let strict = seen(ProtectSystem::Strict, ProtectHome::Empty, None);
    assert_eq!(strict, "no /usr\nno /etc\nno /run\nyes OPEN\nno OPEN/shut\nyes /dev/shm\n0\n");
    // Nothing of that is to be seen outside.
    assert!(std::fs::write(shut.join(".outside"), "").is_ok());
    let _ = std::fs::remove_file("/run/.seen");

    // Its own /tmp is empty, and so is the machine's of what it wrote there.
    std::fs::write("/tmp/.of-the-machine", "").unwrap();
    let mut unit =
        shell("ls -A /tmp | wc -l; touch /tmp/.of-the-service; id -u; cat /proc/self/status | grep CapEff");
    (unit.run.care.sight.private_tmp, unit.run.user) = (true, Some("nobody".into()));
    let before = yard.output().len();
    ended(&yard.spawn(&unit).unwrap());
    assert_eq!(&yard.output()[before..], "0\n65534\nCapEff:\t0000000000000000\n");
    assert!(!std::path::Path::new("/tmp/.of-the-service").exists());
    std::fs::remove_file("/tmp/.of-the-machine").unwrap();

    // A path that is not there is told by its name, and nothing is started.
    unit.run.care.sight.read_write_paths = vec!["/nowhere/at/all".into()];
    let error = yard.spawn(&unit).unwrap_err();
    assert_eq!(error.stage, Stage::Sight);
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn a_hundred_children_without_marks_that_ignore_the_signal_are_gone_after_a_stop() {
    for yard in both_nets() {
        let child = "trap '' TERM; echo up; exec sleep 1000";
        let script = format!("for i in $(seq 100); do env -i setsid /bin/sh -c \"{child}\" & done; wait");
        let main = yard.spawn(&shell(&script)).unwrap();
        yard.tree.remember(&yard.instance, main.identity());
        wait_for("a hundred children", || match yard.output().lines().count() {
            100 => Ok(()),
            n => Err(n),
        });
        assert_eq!(yard.tree.members(&yard.instance).unwrap().len(), 101); // as before the signal of a stop
        main.signal(libc::SIGKILL).unwrap();
        ended(&main);
        let told = wait_for("all to be told", || yard.tree.kill_all(&yard.instance));
        assert_eq!(told.len(), 100);
        assert!(told.iter().all(|handle| handle.wait(SOON).unwrap()));
        assert_eq!(yard.tree.kill_all(&yard.instance).unwrap().len(), 0, "nothing is left");
    }
}
