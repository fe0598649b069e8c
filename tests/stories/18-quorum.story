# A quorum of three is two, whatever became of the third; lost ones count in the denominator.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
store = { on = "all" }
app = { on = "n1", needs.store = "quorum" }
end
unit store
[run]
command = ["/usr/bin/store"]
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

searched app@n1 nothing
answer store@n1 ready
show app@n1
----
tell: store@n1 is waiting
tell: app@n1 is waiting
ask store@n1 fast
ask store@n2 fast
ask store@n3 fast
tell: app@n1 is waiting
ask store@n1 every 5s
app@n1 is waiting: waits for store (quorum, 1 of 2)
  needs store quorum: unmet, 1 of 2

answer store@n2 refused
answer store@n3 ready
cleaned app@n1 clear
answer store@n1 ready
show app@n1
----
clean app@n1
tell: app@n1 is cleaning
ask store@n2 every 5s
ask store@n3 every 5s
verify store@n1
verify store@n3
tell: app@n1 is cleaning
app@n1 is cleaning: asks what it needs once more
  needs store quorum: met, 2 of 2

answer store@n3 ready
spawned app@n1 5
own app@n1 ready
----
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after store@n1 (fine), store@n3 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

