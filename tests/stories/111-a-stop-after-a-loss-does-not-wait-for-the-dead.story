# on-loss = "stop", and a dependent on a machine that is dead: it is waited for as long as an operator's stop would wait.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
web = { on = "n3", unit = "app", needs.app = "any" }
[services.app]
on = "n1"
needs.db = { count = "any", on-loss = "stop", grace = "10s" }
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
peer web@n3 waiting
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 5
own app@n1 ready
peer web@n3 ready
lost n3
answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 11s
show app@n1
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
[499ms later]
verify db@n2
[499ms later]
verify db@n2
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
[9.999s later]
event: app@n1 leaving: its need db was lost
tell: app@n1 is stopping, vetoed
[10.999s later]
tell: app@n1 is stopping, vetoed
app@n1 is stopping: its need db was lost; waits for web@n3 (its agent does not answer; last heard ready)
  needs db any: unmet, 0 of 1

after 59s
----
[997ms later]
tell: app@n1 is stopping, vetoed
[1.997s later]
tell: app@n1 is stopping, vetoed
[2.997s later]
tell: app@n1 is stopping, vetoed
[3.997s later]
tell: app@n1 is stopping, vetoed
[4.997s later]
tell: app@n1 is stopping, vetoed
[5.997s later]
tell: app@n1 is stopping, vetoed
[6.997s later]
tell: app@n1 is stopping, vetoed
[7.997s later]
tell: app@n1 is stopping, vetoed
[8.997s later]
tell: app@n1 is stopping, vetoed
[9.997s later]
tell: app@n1 is stopping, vetoed
[10.997s later]
tell: app@n1 is stopping, vetoed
[11.997s later]
tell: app@n1 is stopping, vetoed
[12.997s later]
tell: app@n1 is stopping, vetoed
[13.997s later]
tell: app@n1 is stopping, vetoed
[14.997s later]
tell: app@n1 is stopping, vetoed
[15.997s later]
tell: app@n1 is stopping, vetoed
[16.997s later]
tell: app@n1 is stopping, vetoed
[17.997s later]
tell: app@n1 is stopping, vetoed
[18.997s later]
tell: app@n1 is stopping, vetoed
[19.997s later]
tell: app@n1 is stopping, vetoed
[20.997s later]
tell: app@n1 is stopping, vetoed
[21.997s later]
tell: app@n1 is stopping, vetoed
[22.997s later]
tell: app@n1 is stopping, vetoed
[23.997s later]
tell: app@n1 is stopping, vetoed
[24.997s later]
tell: app@n1 is stopping, vetoed
[25.997s later]
tell: app@n1 is stopping, vetoed
[26.997s later]
tell: app@n1 is stopping, vetoed
[27.997s later]
tell: app@n1 is stopping, vetoed
[28.997s later]
tell: app@n1 is stopping, vetoed
[29.997s later]
tell: app@n1 is stopping, vetoed
[30.997s later]
tell: app@n1 is stopping, vetoed
[31.997s later]
tell: app@n1 is stopping, vetoed
[32.997s later]
tell: app@n1 is stopping, vetoed
[33.997s later]
tell: app@n1 is stopping, vetoed
[34.997s later]
tell: app@n1 is stopping, vetoed
[35.997s later]
tell: app@n1 is stopping, vetoed
[36.997s later]
tell: app@n1 is stopping, vetoed
[37.997s later]
tell: app@n1 is stopping, vetoed
[38.997s later]
tell: app@n1 is stopping, vetoed
[39.997s later]
tell: app@n1 is stopping, vetoed
[40.997s later]
tell: app@n1 is stopping, vetoed
[41.997s later]
tell: app@n1 is stopping, vetoed
[42.997s later]
tell: app@n1 is stopping, vetoed
[43.997s later]
tell: app@n1 is stopping, vetoed
[44.997s later]
tell: app@n1 is stopping, vetoed
[45.997s later]
tell: app@n1 is stopping, vetoed
[46.997s later]
tell: app@n1 is stopping, vetoed
[47.997s later]
tell: app@n1 is stopping, vetoed
[48.997s later]
tell: app@n1 is stopping, vetoed
[49.997s later]
tell: app@n1 is stopping, vetoed
[50.997s later]
tell: app@n1 is stopping, vetoed
[51.997s later]
tell: app@n1 is stopping, vetoed
[52.997s later]
tell: app@n1 is stopping, vetoed
[53.997s later]
tell: app@n1 is stopping, vetoed
[54.997s later]
tell: app@n1 is stopping, vetoed
[55.997s later]
tell: app@n1 is stopping, vetoed
[56.997s later]
tell: app@n1 is stopping, vetoed
[57.997s later]
tell: app@n1 is stopping, vetoed
[58.997s later]
tell: app@n1 is stopping, vetoed
event: app@n1 stopping: its need db was lost; no longer waits for web@n3 (its agent does not answer; last heard ready)
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more

after 2s
----
[996ms later]
tell: app@n1 is stopping, vetoed
[1.996s later]
tell: app@n1 is stopping, vetoed

# The need comes back in time: it stays.
exited app@n1 code 0
swept app@n1
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 6
own app@n1 ready
answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 12s
answer db@n2 ready
----
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting
ask db@n2 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
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
[499ms later]
verify db@n2
[499ms later]
verify db@n2
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
[9.999s later]
event: app@n1 leaving: its need db was lost
tell: app@n1 is stopping, vetoed
[10.999s later]
tell: app@n1 is stopping, vetoed
[11.999s later]
tell: app@n1 is stopping, vetoed
event: app@n1 need-found: has its need db again
event: app@n1 stays: need not stop any more
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
