# Work that goes on stretches the start's deadline. Where the protocol tells how far it has come, it has to come
# further; where it does not, its word is taken.

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
own db@n1 loading
after 8s
own db@n1 loading
after 9s
show db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
tell: db@n1 is starting
[499ms later]
verify db@n1
[499ms later]
verify db@n1
db@n1 is starting: loading

# It believes to need a minute more, and gets it.
own db@n1 refused
own db@n1 loading for 60s
wake
----
tell: db@n1 is starting
tell: db@n1 is starting
wakes in 59.999s

# Now it tells how far it has come, and comes no further.
own db@n1 loading 40
view db@n1
after 9s
own db@n1 loading 40
after 2s
----
tell: db@n1 is starting
{"desired":"up","failures":0,"instance":"db@n1","own":{"answer":"progress","left":null,"percent":40,"reason":"loading, 40 %"},"percent":40,"pid":5,"reason":"loading, 40 %","since_ms":17011,"starts":1,"state":"starting"}
[996ms later]
event: db@n1 start-timed-out: not ready within 10 s: loading, 40 %
event: db@n1 stopping: not ready within 10 s: loading, 40 %
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more
[1.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
