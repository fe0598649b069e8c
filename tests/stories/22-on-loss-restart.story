# on-loss = "restart": it runs on while the need is away, and is restarted once when it is back.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", on-loss = "restart", grace = "1s" }
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
answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 5s
show app@n1
----
tell: app@n1 is waiting
ask db@n2 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
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
[499ms later]
verify db@n2
[499ms later]
verify db@n2
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
app@n1 is ready: ready (fine)
  needs db any: unmet, 0 of 1

answer db@n2 ready
exited app@n1 code 0
swept app@n1
cleaned app@n1 clear
answer db@n2 ready
----
event: app@n1 need-found: has its need db again
event: app@n1 leaving: its need db is back after a loss
event: app@n1 stopping: its need db is back after a loss
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
clean app@n1
tell: app@n1 is cleaning
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast

