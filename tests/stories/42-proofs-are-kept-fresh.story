# Two needs, one of them answered slowly: the proof of the quick one is had anew before it gets too old, and no
# proof older than a second counts.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
cache = { on = "n3" }
app = { on = "n1", needs.db = "any", needs.cache = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit cache
[run]
command = ["/usr/bin/cache"]
[ready]
probe = { kind = "tcp", port = 9002 }
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
answer cache@n3 ready
cleaned app@n1 clear
answer db@n2 ready
----
tell: app@n1 is waiting
ask db@n2 fast
ask cache@n3 fast
tell: app@n1 is waiting
ask db@n2 every 5s
clean app@n1
tell: app@n1 is cleaning
ask cache@n3 every 5s
verify db@n2
verify cache@n3
tell: app@n1 is cleaning

# Half a second later the quick one is asked again, and only it.
after 600ms
----
[499ms later]
verify db@n2

answer db@n2 ready
after 500ms
answer cache@n3 ready
----
[499ms later]
verify db@n2
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast

# Here the proof of the quick one is older than a second when the slow one comes: it counts no more.
spawned app@n1 5
exited app@n1 code 1
after 1s
cleaned app@n1 clear
answer db@n2 ready
after 1002ms
answer cache@n3 ready
----
event: app@n1 started: pid 5, after db@n2 (fine), cache@n3 (fine)
verify app@n1
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 1.0 s
verify db@n2
verify cache@n3
tell: app@n1 is backoff
ask app@n1 no more
[999ms later]
clean app@n1
tell: app@n1 is cleaning
verify db@n2
verify cache@n3
tell: app@n1 is cleaning
[499ms later]
verify db@n2

answer db@n2 ready
----
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast
