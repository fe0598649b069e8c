# A stop that waits long: the veto is renewed each second, and does not die of age here, where it was made.

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
stop db@n1
after 5s
show db@n1
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
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: held by alice; waits for app@n2 (ready)
[999ms later]
tell: db@n1 is stopping, vetoed
[1.999s later]
tell: db@n1 is stopping, vetoed
[2.999s later]
tell: db@n1 is stopping, vetoed
[3.999s later]
tell: db@n1 is stopping, vetoed
[4.999s later]
tell: db@n1 is stopping, vetoed
db@n1 is stopping (held): held by alice; waits for app@n2 (ready)

# Held no more: it stays, and nothing is left to renew.
start db@n1
own db@n1 ready
after 5s
wake
----
event: db@n1 released: by alice
save: db@n1 is to be up
event: db@n1 stays: need not stop any more
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
reply: db@n1 ready: ready (fine)
wakes no more
