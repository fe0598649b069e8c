# It had given up when the agent was replaced. The new agent finds the database missing, by as many answers as make a
# loss; its coming is news, and the application is tried anew.

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
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched app@n1 ended gave-up
answer db@n2 refused
after 600ms
answer db@n2 refused
after 600ms
answer db@n2 refused
show app@n1
----
tell: app@n1 is failed
ask db@n2 every 5s
[499ms later]
verify db@n2
[499ms later]
verify db@n2
app@n1 is failed: gave up after 5 failures: exit code 1
  needs db any: unmet, 0 of 1

answer db@n2 ready
show app@n1
----
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
app@n1 is cleaning: judges what an earlier run left behind
  needs db any: met, 1 of 1
