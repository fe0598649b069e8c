# Nothing has to be said again to a new agent, and the watchdog's time begins anew with it.

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
kind = "notify"
command = ["/usr/bin/db"]
watchdog = "10s"
[ready]
within = "30s"
[stop]
timeout = "5s"
end
on n1

searched db@n1 running 5 ready
show db@n1
after 9s
says db@n1 WATCHDOG=1
after 9s
show db@n1
----
event: db@n1 found-running: pid 5 still runs: kept
event: db@n1 ready
tell: db@n1 is ready
db@n1 is ready
db@n1 is ready

stop db@n1
exited db@n1 code 0
swept db@n1
show db@n1
----
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
event: db@n1 stopping: held by alice
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: held by alice
event: db@n1 exited: exit code 0
sweep db@n1
tell: db@n1 is stopping, vetoed
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
db@n1 is stopped (held): held by alice
