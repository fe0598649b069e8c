# The wait for the database ends while it is silent: three answers that do not come take longer than the wait. It is
# known to be missed all the same, and when it is met the application is tried anew.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", wait = "5s", then = "fail" }
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
after 2s
answer db@n2 silent
after 2s
answer db@n2 silent
after 1s
show app@n1
----
tell: app@n1 is waiting
ask db@n2 fast
[499ms later]
verify db@n2
[499ms later]
verify db@n2
[995ms later]
event: app@n1 failed: waited 5 s for db
tell: app@n1 is failed
ask db@n2 every 5s
app@n1 is failed: waited 5 s for db
  needs db any: unmet, 0 of 1

answer db@n2 ready
show app@n1
----
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
app@n1 is cleaning: judges what an earlier run left behind
  needs db any: met, 1 of 1
