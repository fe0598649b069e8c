# Damaged data: each start works for minutes and fails. The failures never fall within the window of the start limit, and
# all the same it is not started for ever. A start that came to be ready begins the count anew.

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
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
within = "10m"
[restart]
limit = 3
within = "60s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 loading for 300s
after 200s
exited db@n1 code 1 saying the log is damaged
after 1s
cleaned db@n1 clear
spawned db@n1 6
own db@n1 ready
exited db@n1 code 1
after 2s
cleaned db@n1 clear
spawned db@n1 7
own db@n1 loading for 300s
after 200s
exited db@n1 code 1 saying the log is damaged
after 4s
cleaned db@n1 clear
spawned db@n1 8
own db@n1 loading for 300s
after 200s
exited db@n1 code 1 saying the log is damaged
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
event: db@n1 exited: exit code 1; last words: the log is damaged
event: db@n1 backoff: exit code 1; last words: the log is damaged; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
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
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 2.0 s
tell: db@n1 is backoff
ask db@n1 no more
[1.999s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 3)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 7
verify db@n1
tell: db@n1 is starting
[499ms later]
verify db@n1
event: db@n1 exited: exit code 1; last words: the log is damaged
event: db@n1 backoff: exit code 1; last words: the log is damaged; next start in 4.0 s
tell: db@n1 is backoff
ask db@n1 no more
[3.999s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 4)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 8
verify db@n1
tell: db@n1 is starting
[499ms later]
verify db@n1
event: db@n1 exited: exit code 1; last words: the log is damaged
event: db@n1 failed: gave up after 4 failures: exit code 1; last words: the log is damaged
tell: db@n1 is failed
ask db@n1 no more
db@n1 is failed: gave up after 4 failures: exit code 1; last words: the log is damaged
