# An extension is over, too. What it says while it stops gives it longer than its unit does, before it is killed.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
end
unit db
[run]
kind = "notify"
command = ["/usr/bin/db"]
watchdog = "10s"
[ready]
within = "30s"
[stop]
timeout = "5s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
event: db@n1 started: pid 5

after 29s
says db@n1 EXTEND_TIMEOUT_USEC=5000000
after 3s
show db@n1
after 3s
----
db@n1 is starting: has not said yet that it is ready
[1.997s later]
event: db@n1 start-timed-out: not ready within 30 s: has not said yet that it is ready
event: db@n1 stopping: not ready within 30 s: has not said yet that it is ready
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
[2.997s later]
tell: db@n1 is stopping, vetoed and waits for nobody

says db@n1 EXTEND_TIMEOUT_USEC=20000000 STATUS=writes~its~pages
after 19s
show db@n1
after 2s
----
[995ms later]
tell: db@n1 is stopping, vetoed and waits for nobody
[1.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[2.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[3.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[4.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[5.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[6.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[7.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[8.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[9.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[10.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[11.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[12.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[13.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[14.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[15.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[16.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[17.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
[18.995s later]
tell: db@n1 is stopping, vetoed and waits for nobody
db@n1 is stopping: not ready within 30 s: has not said yet that it is ready
[993ms later]
tell: db@n1 is stopping, vetoed and waits for nobody
[997ms later]
event: db@n1 killed: did not stop within 5 s: its whole process tree is killed
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
[1.993s later]
tell: db@n1 is stopping, vetoed and waits for nobody
