# Two servers are needed of four. Two addresses lead to one of them; the second has to be proven before the start,
# however many answers there are. And more answers than are needed do no harm while another need is awaited.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3", n4 = "10.0.0.4", n5 = "10.0.0.5" }
[services]
store = { on = ["n2", "n3", "n4", "n5"] }
cache = { on = "n2" }
app = { on = "n1", needs.store = 2, needs.cache = "any" }
end
unit store
[run]
command = ["/usr/bin/store"]
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
answer store@n2 ready server-a
answer store@n3 ready server-a
answer store@n4 ready server-b
answer store@n5 refused
answer cache@n2 ready
cleaned app@n1 clear
answer cache@n2 ready
answer store@n2 ready server-a
answer store@n3 ready server-a
show app@n1
----
tell: app@n1 is waiting
ask store@n2 fast
ask store@n3 fast
ask store@n4 fast
ask store@n5 fast
ask cache@n2 fast
tell: app@n1 is waiting
ask store@n2 every 5s
ask store@n3 every 5s
tell: app@n1 is waiting
ask store@n4 every 5s
ask store@n5 every 5s
clean app@n1
tell: app@n1 is cleaning
ask cache@n2 every 5s
verify store@n2
verify store@n3
verify store@n4
verify cache@n2
tell: app@n1 is cleaning
app@n1 is cleaning: asks what it needs once more
  needs store 2: met, 2 of 2
  needs cache any: met, 1 of 1

answer store@n4 ready server-b
spawned app@n1 5
exited app@n1 code 1
after 1s
----
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after store@n2 (fine), store@n3 (fine), store@n4 (fine), cache@n2 (fine)
verify app@n1
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 1.0 s
verify store@n2
verify store@n3
verify store@n4
verify cache@n2
tell: app@n1 is backoff
ask app@n1 no more
[490ms later]
verify store@n5
[999ms later]
clean app@n1
tell: app@n1 is cleaning

cleaned app@n1 clear
answer store@n2 ready server-a
answer store@n3 ready server-a
answer store@n4 ready server-b
show app@n1
answer cache@n2 ready
----
verify store@n2
verify store@n3
verify store@n4
verify cache@n2
tell: app@n1 is cleaning
app@n1 is cleaning: asks what it needs once more
  needs store 2: met, 2 of 2
  needs cache any: met, 1 of 1
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast
