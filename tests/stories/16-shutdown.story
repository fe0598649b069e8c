# The machine goes down: the own instances stop in order among themselves, and wait for no peer.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
app = { on = ["n1", "n2"], needs.db = "all" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 10
own db@n1 ready
cleaned app@n1 clear
answer db@n1 ready
spawned app@n1 11
own app@n1 ready
peer app@n2 ready
----
clean db@n1
tell: db@n1 is cleaning
tell: app@n1 is waiting
ask db@n1 fast
tell: app@n1 is waiting
spawn db@n1 (start 1)
tell: db@n1 is starting
event: db@n1 started: pid 10
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
clean app@n1
tell: app@n1 is cleaning
ask db@n1 every 5s
verify db@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 11, after db@n1 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

shutdown
----
event: db@n1 leaving: the machine goes down
tell: db@n1 is stopping, vetoed and waits for nobody
event: app@n1 leaving: the machine goes down
event: app@n1 stopping: the machine goes down
signal 15 to app@n1
tell: app@n1 is stopping, vetoed and waits for nobody
tell: db@n1 is stopping, vetoed and waits for nobody
verify db@n1
ask app@n1 no more

exited app@n1 code 0
swept app@n1
----
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed and waits for nobody
event: app@n1 stopped: nothing of it runs
tell: app@n1 is stopped, has released db@n1
event: db@n1 stopping: the machine goes down
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more

exited db@n1 code 0
swept db@n1
----
event: db@n1 exited: exit code 0
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
tell: app@n1 is stopped
finished

