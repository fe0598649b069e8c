# Something else answers at our port while our process is still being made: that is no readiness of ours. Nor is it
# while the daemon behind a launcher has not been found.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
fork = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit fork
[run]
command = ["/usr/bin/fork"]
kind = "forking"
pidfile = "/run/fork.pid"
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
cleaned db@n1 clear
own db@n1 ready
show db@n1
----
clean db@n1
tell: db@n1 is cleaning
tell: fork@n1 is waiting
clean fork@n1
tell: fork@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
db@n1 is starting: its own probe has not passed yet

spawned db@n1 5
show db@n1
own db@n1 ready
----
event: db@n1 started: pid 5
verify db@n1
db@n1 is starting: its own probe has not passed yet
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s

cleaned fork@n1 clear
spawned fork@n1 6
own fork@n1 ready
show fork@n1
exited fork@n1 code 0
main fork@n1 7
own fork@n1 ready
show fork@n1
----
spawn fork@n1 (start 1)
tell: fork@n1 is starting
ask fork@n1 fast
event: fork@n1 started: pid 6
verify fork@n1
fork@n1 is starting: its own probe has not passed yet
find the main process of fork@n1
event: fork@n1 main-found: the daemon is pid 7
event: fork@n1 ready: ready (fine)
tell: fork@n1 is ready
ask fork@n1 every 5s
fork@n1 is ready: ready (fine)
