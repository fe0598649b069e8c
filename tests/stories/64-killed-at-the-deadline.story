# It ignores the stop signal and is killed with its tree. Its exit is told, and the stop has ended only when nothing of
# it is left. Nothing about it is a failure.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
[stop]
timeout = "2s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
stop db@n1
after 2s
exited db@n1 signal 9
show db@n1
swept db@n1 killed 1
view db@n1
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
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
event: db@n1 stopping: held by alice
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 no more
reply: db@n1 stopping: held by alice
[999ms later]
tell: db@n1 is stopping, vetoed
[1.999s later]
tell: db@n1 is stopping, vetoed
event: db@n1 killed: did not stop within 2 s: its whole process tree is killed
sweep db@n1
tell: db@n1 is stopping, vetoed
event: db@n1 exited: killed by SIGKILL
db@n1 is stopping (held): clears what is left of its processes
event: db@n1 stopped: nothing of it runs; 1 process(es) that outlived the main one were killed
tell: db@n1 is stopped
{"desired":"held","failures":0,"held_at":0,"held_because":"","held_by":"alice","instance":"db@n1","reason":"held by alice","since_ms":1,"starts":1,"state":"stopped"}
