# systemd runs it: whether it runs already is not told at once, and neither is what came of a start. That it is active is
# systemd's word; what systemd says of an end goes before the last words.

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
kind = "systemd"
unit = "db.service"
[ready]
within = "30s"
end
on n1

after 2s
show db@n1
----
db@n1 is waiting: looking for what already runs here

searched db@n1 nothing
cleaned db@n1 clear
show db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
db@n1 is starting: systemd has not said yet that its unit is active

after 3s
spawned db@n1 5
says db@n1 STATUS=recovers
says db@n1 READY=1 STATUS=serves
show db@n1
----
event: db@n1 started: db.service, pid 5
tell: db@n1 is starting
event: db@n1 ready: serves
tell: db@n1 is ready
db@n1 is ready: serves

# Its main process is another one now.
main db@n1 6
----
event: db@n1 main-found: the daemon is pid 6

exited db@n1 code 0 - stopped through systemd, and not by clusterd
after 2s
cleaned db@n1 clear
----
event: db@n1 exited: exit code 0; stopped through systemd, and not by clusterd
event: db@n1 backoff: exit code 0; stopped through systemd, and not by clusterd; next start in 1.0 s
tell: db@n1 is backoff
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting

# Stopped before systemd has said that it runs.
stop db@n1
exited db@n1 unknown
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
event: db@n1 exited: exit code unknown (it was not this agent's child)
sweep db@n1
tell: db@n1 is stopping, vetoed
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
db@n1 is stopped (held): held by alice
