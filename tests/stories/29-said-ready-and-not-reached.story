# The other agent says ready: leftovers are judged at once, so that one answer from here is enough. The answer is that
# nothing comes through: nothing is started, and it has waited all the while.

cluster
[cluster]
name = "shop"
[nodes]
web = { web1 = "10.0.0.21" }
redis = { redis1 = "10.0.0.41" }
[services]
redis = { on = "redis" }
web = { on = "web", needs.redis = "any" }
end
unit redis
[run]
command = ["/usr/bin/redis-server"]
[ready]
probe = { kind = "tcp", port = 6379 }
end
unit web
[run]
command = ["/usr/sbin/nginx"]
[ready]
probe = { kind = "tcp", port = 80 }
end
on web1

searched all nothing
answer redis@redis1 silent
after 5s
peer redis@redis1 ready
----
tell: web@web1 is waiting
ask redis@redis1 fast
[499ms later]
verify redis@redis1
clean web@web1
tell: web@web1 is cleaning

cleaned web@web1 clear
----
verify redis@redis1
tell: web@web1 is cleaning

answer redis@redis1 silent
after 1s
show web@web1
----
tell: web@web1 is waiting
[499ms later]
verify redis@redis1
web@web1 is waiting: waits for redis (any, 0 of 1)
  needs redis any: unmet, 0 of 1

# Said again, it is not looked at again: the waiting pace finds it anyway.
peer redis@redis1 ready
answer redis@redis1 ready
----
clean web@web1
tell: web@web1 is cleaning
ask redis@redis1 every 5s

cleaned web@web1 clear
answer redis@redis1 ready
----
verify redis@redis1
tell: web@web1 is cleaning
spawn web@web1 (start 1)
tell: web@web1 is starting
ask web@web1 fast
