# The database is to stop and waits for the other machine. Its neighbour here has let go; as long as the database is
# vetoed the neighbour is not started again, however long that takes. Our own veto needs no renewal here.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
app = { on = ["n1", "n2"], needs.db = "any" }
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

searched db@n1 running 5 ready
searched app@n1 nothing
own db@n1 ready
peer app@n2 ready
stop db@n1
cleaned app@n1 clear
answer db@n1 ready
after 10s
answer db@n1 ready
show app@n1
show db@n1
----
event: db@n1 found-running: pid 5 still runs: kept
verify db@n1
tell: db@n1 is unready
tell: app@n1 is waiting
ask db@n1 fast
tell: app@n1 is waiting
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
clean app@n1
tell: app@n1 is cleaning
ask db@n1 every 5s
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
tell: db@n1 is stopping, vetoed
tell: app@n1 is cleaning, has released db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 fast
reply: db@n1 stopping: held by alice; waits for app@n2 (ready)
tell: app@n1 is waiting, has released db@n1
[997ms later]
tell: db@n1 is stopping, vetoed
[1.997s later]
tell: db@n1 is stopping, vetoed
[2.997s later]
tell: db@n1 is stopping, vetoed
[3.997s later]
tell: db@n1 is stopping, vetoed
[4.997s later]
tell: db@n1 is stopping, vetoed
[5.997s later]
tell: db@n1 is stopping, vetoed
[6.997s later]
tell: db@n1 is stopping, vetoed
[7.997s later]
tell: db@n1 is stopping, vetoed
[8.997s later]
tell: db@n1 is stopping, vetoed
[9.997s later]
tell: db@n1 is stopping, vetoed
app@n1 is waiting: waits for db (any, 0 of 1)
  needs db any: unmet, 0 of 1
db@n1 is stopping (held): held by alice; waits for app@n2 (ready)
