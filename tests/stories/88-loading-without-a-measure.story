# It loads, and its protocol does not tell how far it has come: its word is taken, and taken again at each deadline,
# although it never says anything else. One that tells how far it has come, and comes no further, is ended.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
within = "30s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 loading
after 100s
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
db@n1 is starting: loading

own db@n1 loading 40
after 29s
show db@n1
after 2s
show db@n1
----
tell: db@n1 is starting
[499ms later]
verify db@n1
db@n1 is starting: loading, 40 %
[997ms later]
event: db@n1 start-timed-out: not ready within 30 s: loading, 40 %
event: db@n1 stopping: not ready within 30 s: loading, 40 %
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more
[1.997s later]
tell: db@n1 is stopping, vetoed and waits for nobody
db@n1 is stopping: not ready within 30 s: loading, 40 %
