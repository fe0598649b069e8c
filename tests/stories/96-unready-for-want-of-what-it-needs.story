# It is unready because what it needs is gone: to start it anew would mend nothing. When that is back, it has its time.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n2" }
app = { on = "n1", needs.db = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
lost_after = 1
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 80 }
lost_after = 1
[restart]
unready_for = "20s"
end
on n1

searched all nothing
answer db@n2 ready
cleaned app@n1 clear
after 100ms
answer db@n2 ready
spawned app@n1 5
own app@n1 ready
answer db@n2 refused
own app@n1 refused
after 1m
answer db@n2 refused
own app@n1 refused
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
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
event: app@n1 unready: connection refused
tell: app@n1 is unready
ask app@n1 every 500ms
app@n1 is unready: connection refused
  needs db any: unmet, 0 of 1

answer db@n2 ready
after 19s
show app@n1
after 2s
----
event: app@n1 need-found: has its need db again
app@n1 is unready: connection refused
  needs db any: met, 1 of 1
[997ms later]
event: app@n1 unready-too-long: unready for 80 s: connection refused
event: app@n1 stopping: unready for 80 s: connection refused
signal 15 to app@n1
tell: app@n1 is stopping, vetoed and waits for nobody
ask app@n1 no more
[1.997s later]
tell: app@n1 is stopping, vetoed and waits for nobody
