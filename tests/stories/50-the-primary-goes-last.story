# Replicas need one other of their own service, the primary on n1 needs nobody: a circle that can be opened.
# The primary: its replicas let go first.

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
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
peer db@n2 ready
peer db@n3 ready
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

stop db@n1
----
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: held by alice; waits for db@n2 (ready), db@n3 (ready)
