# It reached its start limit: the next agent is to know that, and why. A need whose bounded wait was over counts as
# missed: when it is met after all, that is news.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", wait = "30s", then = "start" }
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
[restart]
limit = 1
end
on n1

searched all nothing
answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 30s
cleaned app@n1 clear
spawned app@n1 5
after 5s
exited app@n1 code 1
show app@n1
journal app@n1
----
tell: app@n1 is waiting
ask db@n2 fast
[499ms later]
verify db@n2
[499ms later]
verify db@n2
[28.994s later]
event: app@n1 waived: waited 30 s for db: starts without it
clean app@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask db@n2 every 5s
ask app@n1 fast
event: app@n1 started: pid 5
verify app@n1
event: app@n1 exited: exit code 1
event: app@n1 failed: gave up after 1 failures: exit code 1
tell: app@n1 is failed
ask app@n1 no more
app@n1 is failed: gave up after 1 failures: exit code 1
  needs db any: met, 0 of 1
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":0,"starts":1,"failures":1,"gave_up":"gave up after 1 failures: exit code 1","flags":[]}

answer db@n2 ready
show app@n1
----
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
app@n1 is cleaning: judges what an earlier run left behind
  needs db any: met, 1 of 1
