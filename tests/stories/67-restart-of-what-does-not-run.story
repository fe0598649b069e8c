# A restart of what is held does nothing; of a oneshot that has completed, it runs it again; of what failed, it is a new
# chance.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
job = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
[restart]
limit = 1
end
unit job
[run]
command = ["/usr/bin/job"]
kind = "oneshot"
end
on n1

searched db@n1 nothing
cleaned db@n1 clear
spawned db@n1 5
exited db@n1 code 1
----
clean db@n1
tell: db@n1 is cleaning
tell: job@n1 is waiting
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 exited: exit code 1
event: db@n1 failed: gave up after 1 failures: exit code 1
tell: db@n1 is failed
ask db@n1 no more

restart db@n1
cleaned db@n1 clear
spawned db@n1 6
exited db@n1 code 1
stop db@n1
restart db@n1
show db@n1
----
event: db@n1 restart-ordered: by alice
clean db@n1
tell: db@n1 is cleaning
reply: db@n1 cleaning: judges what an earlier run left behind
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 6
verify db@n1
event: db@n1 exited: exit code 1
event: db@n1 failed: gave up after 1 failures: exit code 1
tell: db@n1 is failed
ask db@n1 no more
event: db@n1 held: by alice
save: db@n1 is held by alice
tell: db@n1 is stopped
reply: db@n1 stopped: held by alice
event: db@n1 restart-ordered: by alice
reply: db@n1 stopped: held by alice
db@n1 is stopped (held): held by alice

searched job@n1 nothing
cleaned job@n1 clear
spawned job@n1 7
exited job@n1 code 0
start job@n1
restart job@n1
----
clean job@n1
tell: job@n1 is cleaning
spawn job@n1 (start 1)
tell: job@n1 is starting
event: job@n1 started: pid 7
event: job@n1 exited: exit code 0
event: job@n1 completed
tell: job@n1 is completed
event: job@n1 released: by alice
reply: job@n1 completed
event: job@n1 restart-ordered: by alice
clean job@n1
tell: job@n1 is cleaning
reply: job@n1 cleaning: judges what an earlier run left behind
