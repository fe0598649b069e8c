# A restart is a stop and a start: a dependent that would lose its need lets go first.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
app = { on = "n2", needs.db = "any" }
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
spawned db@n1 5
own db@n1 ready
peer app@n2 ready
restart db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
event: db@n1 restart-ordered: by alice
event: db@n1 leaving: restarted by alice
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: restarted by alice; waits for app@n2 (ready)

peer app@n2 waiting released db@n1
exited db@n1 code 0
swept db@n1
cleaned db@n1 clear
spawned db@n1 6
own db@n1 ready
----
event: db@n1 stopping: restarted by alice
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 no more
event: db@n1 exited: exit code 0
sweep db@n1
tell: db@n1 is stopping, vetoed
event: db@n1 stopped: nothing of it runs
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 6
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s

