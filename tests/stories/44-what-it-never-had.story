# Two candidates. The one that the app has is going with its machine, and nobody waits for that; the other, which it
# never had, is stopped by an operator. That one is released, and it is no reason to stop.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = ["n2", "n3"] }
app = { on = "n1", needs.db = "any" }
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
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 5
own app@n1 ready
----
tell: app@n1 is waiting
ask db@n2 fast
ask db@n3 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
ask db@n3 every 5s
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after db@n2 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

answer db@n3 refused
after 500ms
answer db@n3 refused
after 500ms
answer db@n3 refused
----
[499ms later]
verify db@n3
[499ms later]
verify db@n3

peer db@n2 stopping veto 4 nowait
peer db@n3 stopping veto 5
----
tell: app@n1 is ready, has released db@n3
