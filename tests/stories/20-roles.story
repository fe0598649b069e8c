# Only instances in the role count: a read-only MySQL is ready, and not what the broker needs.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
redis = { on = ["n2", "n3"] }
app = { on = "n1", needs.redis = "any master" }
end
unit redis
[run]
command = ["/usr/bin/redis"]
[ready]
probe = { kind = "redis", port = 6379 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
answer redis@n2 ready replica
answer redis@n3 refused
show app@n1
----
tell: app@n1 is waiting
ask redis@n2 fast
ask redis@n3 fast
app@n1 is waiting: waits for redis (any master, 0 of 1)
  needs redis any master: unmet, 0 of 1

answer redis@n2 ready master writable
show app@n1
----
clean app@n1
tell: app@n1 is cleaning
ask redis@n2 every 5s
ask redis@n3 every 5s
app@n1 is cleaning: judges what an earlier run left behind
  needs redis any master: met, 1 of 1

