# Replicas need one other of their own service, the primary on n1 needs nobody: a circle that can be opened.
# A replica waits for the one that comes up after it, and for no other.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services.db]
on = ["n1", "n2", "n3"]
at.n2.needs.first = { of = "db", count = 1 }
at.n3.needs.first = { of = "db", count = 1 }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
on n2

searched all nothing
answer db@n1 ready
cleaned db@n2 clear
answer db@n1 ready
spawned db@n2 5
own db@n2 ready
peer db@n1 ready
peer db@n3 ready
----
tell: db@n2 is waiting
ask db@n1 fast
ask db@n3 fast
clean db@n2
tell: db@n2 is cleaning
ask db@n1 every 5s
ask db@n3 every 5s
verify db@n1
tell: db@n2 is cleaning
spawn db@n2 (start 1)
tell: db@n2 is starting
ask db@n2 fast
event: db@n2 started: pid 5, after db@n1 (fine)
verify db@n2
event: db@n2 ready: ready (fine)
tell: db@n2 is ready
ask db@n2 every 5s
verify db@n3

stop db@n2
----
event: db@n2 held: by alice
save: db@n2 is held by alice
event: db@n2 leaving: held by alice
tell: db@n2 is stopping, vetoed
reply: db@n2 stopping: held by alice; waits for db@n3 (ready)
