# A loss just before the exit excuses it, one that was over long before does not, nor one from before the start.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
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

searched all nothing
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 5
own app@n1 ready
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

# It goes for an instant, and the app dies half a second later.
answer db@n2 refused
after 100ms
answer db@n2 ready
after 500ms
exited app@n1 code 1
----
event: app@n1 exited: exit code 1
event: app@n1 excused: exit code 1; a need was lost, so it is not counted
clean app@n1
tell: app@n1 is cleaning
ask app@n1 no more

# Again, but the app dies two seconds later.
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 6
own app@n1 ready
answer db@n2 refused
after 100ms
answer db@n2 ready
after 2s
exited app@n1 code 1
answer db@n2 ready
----
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 6, after db@n2 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 1.0 s
verify db@n2
tell: app@n1 is backoff
ask app@n1 no more

# The loss was before this start.
answer db@n2 refused
after 800ms
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 7
exited app@n1 code 1
----
event: app@n1 excused: a need had been lost when it exited; the failure is not counted
tell: app@n1 is waiting
ask db@n2 fast
[499ms later]
verify db@n2
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 3)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 7, after db@n2 (fine)
verify app@n1
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 1.0 s
verify db@n2
tell: app@n1 is backoff
ask app@n1 no more
