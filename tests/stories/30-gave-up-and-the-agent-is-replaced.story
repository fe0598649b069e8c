# It reached its start limit; then the agent is replaced. The new one has heard nothing yet, so needs that it finds met
# are no news: it stays failed until an operator says otherwise, or a need that was unmet becomes met.

cluster
[cluster]
name = "shop"
[nodes]
a = { n1 = "10.0.0.1" }
b = { n2 = "10.0.0.2" }
[services]
db = { on = "b" }
app = { on = "a", needs.db = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 5432 }
lost_after = 2
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 80 }
end
on n1

searched app@n1 ended gave-up
answer db@n2 ready
show app@n1
----
tell: app@n1 is failed
ask db@n2 every 5s
app@n1 is failed: gave up after 5 failures: exit code 1
  needs db any: met, 1 of 1

answer db@n2 refused
after 1s
answer db@n2 refused
after 1s
answer db@n2 ready
----
[499ms later]
verify db@n2
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
