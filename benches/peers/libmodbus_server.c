/*
 * A Modbus server on libmodbus: what the cost of a request is held against in C.
 *
 * One thread around epoll. The library reads and checks the request (`modbus_receive`), carries it out on an
 * image of all addresses in memory and answers (`modbus_reply`); all that is here is the waiting. Unit ids are
 * not looked at, as is the library's way over TCP.
 *
 *     cc -O2 libmodbus_server.c $(pkg-config --cflags --libs libmodbus)
 *
 * `libmodbus_server` binds a free port of 127.0.0.1, prints the address and serves until it is killed.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <modbus.h>

enum {
    AREA_SIZE = 65536,
    BACKLOG = 4096,
    EVENTS = 1024,
};

static void fail(const char *what)
{
    fprintf(stderr, "libmodbus_server: %s: %s\n", what, modbus_strerror(errno));
    exit(EXIT_FAILURE);
}

/* Level-triggered, as the library takes one request at a time and leaves what is behind it in the socket. */
static void watch(int poll, int socket)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) == -1)
        fail("epoll_ctl");
}

static void print_address(int listener)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length) == -1)
        fail("getsockname");
    printf("%s:%d\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));
    fflush(stdout);
}

static void accept_master(int poll, int listener)
{
    int master = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (master == -1) {
        /* It has hung up meanwhile; anything else would come again at once, for ever. */
        if (errno == ECONNABORTED || errno == EINTR)
            return;
        fail("accept4");
    }
    /* The library waits by select(), which takes no higher number. */
    if (master >= FD_SETSIZE) {
        close(master);
        return;
    }
    int on = 1;
    setsockopt(master, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(poll, master);
}

/* One request; `false` when the connection is at its end, or what came is not Modbus. */
static bool serve(modbus_t *context, modbus_mapping_t *image, int master)
{
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_set_socket(context, master);
    int length = modbus_receive(context, request);
    return length != -1 && modbus_reply(context, request, length, image) != -1;
}

int main(void)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    if (context == NULL)
        fail("modbus_new_tcp");
    modbus_mapping_t *image = modbus_mapping_new(AREA_SIZE, AREA_SIZE, AREA_SIZE, AREA_SIZE);
    if (image == NULL)
        fail("modbus_mapping_new");
    int listener = modbus_tcp_listen(context, BACKLOG);
    if (listener == -1)
        fail("modbus_tcp_listen");
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll == -1)
        fail("epoll_create1");
    watch(poll, listener);
    print_address(listener);

    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        if (count == -1 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            int socket = events[i].data.fd;
            if (socket == listener)
                accept_master(poll, listener);
            else if (!serve(context, image, socket))
                close(socket);
        }
    }
}
