# It is being stopped because it was not ready in time, and an operator holds it meanwhile: it is held, and nothing is
# counted.

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
within = "10s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
after 10s
stop db@n1
exited db@n1 code 0
swept db@n1
view db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
[9.998s later]
event: db@n1 start-timed-out: not ready within 10 s: its own probe has not passed yet
event: db@n1 stopping: not ready within 10 s: its own probe has not passed yet
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more
event: db@n1 held: by alice
save: db@n1 is held by alice
reply: db@n1 stopping: not ready within 10 s: its own probe has not passed yet
event: db@n1 exited: exit code 0
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
{"desired":"held","failures":0,"held_at":0,"held_because":"","held_by":"alice","instance":"db@n1","reason":"held by alice","since_ms":1,"starts":1,"state":"stopped"}
