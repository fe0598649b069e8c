# Not ready in time: it is stopped, with what its own probe said last, and that counts as a failure.

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
[stop]
timeout = "5s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 refused
after 11s
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
[9.997s later]
event: db@n1 start-timed-out: not ready within 10 s: connection refused
event: db@n1 stopping: not ready within 10 s: connection refused
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more
[10.997s later]
tell: db@n1 is stopping, vetoed and waits for nobody

# It ignores the signal: the whole tree is killed.
after 6s
----
[996ms later]
tell: db@n1 is stopping, vetoed and waits for nobody
[1.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[2.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[3.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
event: db@n1 killed: did not stop within 5 s: its whole process tree is killed
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
[4.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[5.996s later]
tell: db@n1 is stopping, vetoed and waits for nobody

swept db@n1
show db@n1
----
event: db@n1 stopped: nothing of it runs
event: db@n1 backoff: not ready within 10 s: connection refused; next start in 1.0 s
tell: db@n1 is backoff
db@n1 is backoff: not ready within 10 s: connection refused

