# A new agent finds it starting. It may have said READY=1 to nobody, and says it once only: when its start's time is over
# and it lives, it counts as ready, and that is told.

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

searched db@n1 running 5
show db@n1
after 31s
show db@n1
----
event: db@n1 found-running: pid 5 still runs: kept
tell: db@n1 is starting
db@n1 is starting: found running by a new agent; its own probe is asked
[29.998s later]
event: db@n1 not-heard: counts as ready: it ran on for 30 s, and READY=1 may have been said while no agent listened
event: db@n1 ready
tell: db@n1 is ready
db@n1 is ready

# From then on it has to give signs of life.
after 11s
----
[8.996s later]
event: db@n1 watchdog: gave no sign of life (WATCHDOG=1) for 10000 ms
event: db@n1 stopping: gave no sign of life (WATCHDOG=1) for 10000 ms
signal 6 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
[9.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[10.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
