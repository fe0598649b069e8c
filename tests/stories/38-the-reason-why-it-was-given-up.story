# What ends in `failed` says how the last run ended: the exit code, the signal, or that its cgroup was out of memory; and
# what it printed last.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
[restart]
delay = "1s"
limit = 3
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
exited db@n1 signal 11
after 1s
cleaned db@n1 clear
spawned db@n1 6
exited db@n1 out-of-memory
after 2s
cleaned db@n1 clear
spawned db@n1 7
exited db@n1 code 3 saying page 4711 is damaged
show db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 exited: killed by SIGSEGV
event: db@n1 backoff: killed by SIGSEGV; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 6
verify db@n1
event: db@n1 exited: killed by SIGKILL: its cgroup was out of memory
event: db@n1 backoff: killed by SIGKILL: its cgroup was out of memory; next start in 2.0 s
tell: db@n1 is backoff
ask db@n1 no more
[1.999s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 3)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 7
verify db@n1
event: db@n1 exited: exit code 3; last words: page 4711 is damaged
event: db@n1 failed: gave up after 3 failures: exit code 3; last words: page 4711 is damaged
tell: db@n1 is failed
ask db@n1 no more
db@n1 is failed: gave up after 3 failures: exit code 3; last words: page 4711 is damaged

# Nothing more is tried, whatever time passes.
after 1440m
wake
----
wakes no more
