# Replicas need one other of their own service, the primary on n1 needs nobody: a circle that can be opened.
# The last to come up: nobody that could lean on it goes before it.

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
on n3

searched all nothing
answer db@n1 ready
cleaned db@n3 clear
answer db@n1 ready
spawned db@n3 5
own db@n3 ready
peer db@n1 ready
peer db@n2 ready
----
tell: db@n3 is waiting
ask db@n1 fast
ask db@n2 fast
clean db@n3
tell: db@n3 is cleaning
ask db@n1 every 5s
ask db@n2 every 5s
verify db@n1
tell: db@n3 is cleaning
spawn db@n3 (start 1)
tell: db@n3 is starting
ask db@n3 fast
event: db@n3 started: pid 5, after db@n1 (fine)
verify db@n3
event: db@n3 ready: ready (fine)
tell: db@n3 is ready
ask db@n3 every 5s
verify db@n2

stop db@n3
----
event: db@n3 held: by alice
save: db@n3 is held by alice
event: db@n3 leaving: held by alice
event: db@n3 stopping: held by alice
signal 15 to db@n3
tell: db@n3 is stopping, vetoed
ask db@n3 no more
reply: db@n3 stopping: held by alice
