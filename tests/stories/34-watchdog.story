# No sign of life for longer than its unit allows: it is aborted, and that counts as a failure. Before it is ready none is
# due.

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

after 20s
says db@n1 READY=1
after 9s
says db@n1 WATCHDOG=1
after 9s
show db@n1
after 2s
----
event: db@n1 ready
tell: db@n1 is ready
db@n1 is ready
[997ms later]
event: db@n1 watchdog: gave no sign of life (WATCHDOG=1) for 10000 ms
event: db@n1 stopping: gave no sign of life (WATCHDOG=1) for 10000 ms
signal 6 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
[1.997s later]
tell: db@n1 is stopping, vetoed and waits for nobody

exited db@n1 signal 6
swept db@n1
show db@n1
----
event: db@n1 exited: killed by SIGABRT
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
event: db@n1 stopped: nothing of it runs
event: db@n1 backoff: gave no sign of life (WATCHDOG=1) for 10000 ms; next start in 1.0 s
tell: db@n1 is backoff
db@n1 is backoff: gave no sign of life (WATCHDOG=1) for 10000 ms

# The next one says itself that it has failed.
after 2s
cleaned db@n1 clear
spawned db@n1 6
says db@n1 READY=1
says db@n1 WATCHDOG=trigger
----
[998ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
event: db@n1 started: pid 6
event: db@n1 ready
tell: db@n1 is ready
event: db@n1 watchdog: says itself that it has failed (WATCHDOG=trigger)
event: db@n1 stopping: says itself that it has failed (WATCHDOG=trigger)
signal 6 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
