# It is ready when it says READY=1. What it says of itself until then is its reason, and EXTEND_TIMEOUT_USEC gives it
# longer than its unit does.

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

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
event: db@n1 started: pid 5

says db@n1 STATUS=recovers~the~log,~10~%
after 20s
says db@n1 STATUS=recovers~the~log,~60~% EXTEND_TIMEOUT_USEC=30000000
after 25s
show db@n1
----
tell: db@n1 is starting
tell: db@n1 is starting
db@n1 is starting: recovers the log, 60 %

says db@n1 READY=1 STATUS=serves
show db@n1
----
event: db@n1 ready: serves
tell: db@n1 is ready
db@n1 is ready: serves

# What it says later is shown; a reload is no loss.
says db@n1 RELOADING=1
show db@n1
----
tell: db@n1 is ready
db@n1 is ready: says that it is reloading: serves

says db@n1 READY=1 STATUS=serves~with~new~rules
show db@n1
----
tell: db@n1 is ready
db@n1 is ready: serves with new rules

# It goes by itself: not ready any more, before its process ends.
says db@n1 STOPPING=1
show db@n1
----
event: db@n1 unready: says that it is stopping: serves with new rules
tell: db@n1 is unready
db@n1 is unready: says that it is stopping: serves with new rules

exited db@n1 code 0
----
event: db@n1 exited: exit code 0
event: db@n1 backoff: exit code 0; next start in 1.0 s
tell: db@n1 is backoff
