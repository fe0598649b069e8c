# Two databases that both take writes are worse than none: nothing is started on either, and it is said. What runs
# already keeps running, and is flagged.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
mysql = { on = ["n2", "n3"] }
app = { on = "n1", needs.mysql = "one writable" }
late = { on = "n1", needs.mysql = "one writable" }
end
unit mysql
[run]
command = ["/usr/bin/mysql"]
[ready]
probe = { kind = "mysql", port = 3306, user = "probe" }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
unit late
[run]
command = ["/usr/bin/late"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
on n1

stop late@n1
searched all nothing
answer mysql@n2 ready writable
answer mysql@n3 ready
cleaned app@n1 clear
answer mysql@n2 ready writable
spawned app@n1 5
own app@n1 ready
----
event: late@n1 held: by alice
save: late@n1 is held by alice
tell: app@n1 is waiting
tell: late@n1 is waiting
ask mysql@n2 fast
ask mysql@n3 fast
reply: late@n1 waiting: looking for what already runs here
tell: app@n1 is waiting
tell: late@n1 is stopped
clean app@n1
tell: app@n1 is cleaning
ask mysql@n2 every 5s
ask mysql@n3 every 5s
verify mysql@n2
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after mysql@n2 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

answer mysql@n3 ready writable
answer mysql@n2 ready writable
start late@n1
view app@n1
show late@n1
----
verify mysql@n2
event: app@n1 rivals: mysql@n2 and mysql@n3 serve as writable at once, and only one may
event: late@n1 rivals: mysql@n2 and mysql@n3 serve as writable at once, and only one may
event: late@n1 released: by alice
save: late@n1 is to be up
tell: late@n1 is waiting
reply: late@n1 waiting: waits for mysql (one writable, 2 of 1)
{"desired":"up","failures":0,"flags":["alarm: mysql@n2 and mysql@n3 serve as writable at once, and only one may"],"instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":4,"starts":1,"state":"ready"}
  {"count":"one writable","met":2,"name":"mysql","ok":true,"since_ms":3,"waived":false,"wanted":1}
    {"address":"10.0.0.2:3306","met":true,"to":"mysql@n2","verdict":{"answer":"ready","detail":"fine","roles":["writable"]},"verdict_since_ms":9}
    {"address":"10.0.0.3:3306","met":true,"to":"mysql@n3","verdict":{"answer":"ready","detail":"fine","roles":["writable"]},"verdict_since_ms":8}
late@n1 is waiting: waits for mysql (one writable, 2 of 1)
  needs mysql one writable: unmet, 2 of 1

answer mysql@n3 ready
show late@n1
----
event: app@n1 rivals-gone: no more serve its need mysql than may
event: late@n1 rivals-gone: no more serve its need mysql than may
clean late@n1
tell: late@n1 is cleaning
late@n1 is cleaning: judges what an earlier run left behind
  needs mysql one writable: met, 1 of 1

# One is told to stop. While it serves there are two, and nothing is started.
stop late@n1
answer mysql@n3 ready writable
answer mysql@n2 ready writable
peer mysql@n3 stopping veto 7
start late@n1
show late@n1
----
event: late@n1 held: by alice
save: late@n1 is held by alice
reply: late@n1 cleaning: judges what an earlier run left behind
verify mysql@n2
event: app@n1 rivals: mysql@n2 and mysql@n3 serve as writable at once, and only one may
event: late@n1 rivals: mysql@n2 and mysql@n3 serve as writable at once, and only one may
tell: app@n1 is ready, has released mysql@n3
tell: late@n1 is cleaning, has released mysql@n3
ask mysql@n3 fast
event: late@n1 released: by alice
save: late@n1 is to be up
reply: late@n1 cleaning: judges what an earlier run left behind
late@n1 is cleaning: judges what an earlier run left behind
  needs mysql one writable: unmet, 2 of 1

# It has gone.
answer mysql@n3 refused
show late@n1
----
event: app@n1 rivals-gone: no more serve its need mysql than may
event: late@n1 rivals-gone: no more serve its need mysql than may
ask mysql@n3 every 5s
late@n1 is cleaning: judges what an earlier run left behind
  needs mysql one writable: met, 1 of 1

# The primary moves. When the new one says so, the old one was last asked while it still was the primary: it is asked
# again, and that is no alarm.
stop late@n1
peer mysql@n3 ready
answer mysql@n3 ready
answer mysql@n2 ready writable
after 500ms
answer mysql@n3 ready writable
start late@n1
show late@n1
----
event: late@n1 held: by alice
save: late@n1 is held by alice
reply: late@n1 cleaning: judges what an earlier run left behind
tell: app@n1 is ready
tell: late@n1 is cleaning
verify mysql@n2
event: late@n1 released: by alice
save: late@n1 is to be up
reply: late@n1 cleaning: judges what an earlier run left behind
late@n1 is cleaning: judges what an earlier run left behind
  needs mysql one writable: unmet, 2 of 1

answer mysql@n2 ready
show late@n1
----
late@n1 is cleaning: judges what an earlier run left behind
  needs mysql one writable: met, 1 of 1
