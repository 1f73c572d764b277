/*
 * A device on libmodbus; image.py says how it is told what to do.
 *
 *     cc -O2 libmodbus_device.c $(pkg-config --cflags --libs libmodbus)
 *
 * All units are the same memory; where frames are RTU's, it is the first unit only, and others are not answered.
 * RTU frames travel over TCP: the library takes a socket for its serial line, as it only reads and writes there.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <modbus.h>

/* As in image.py. */
enum {
    COILS = 64,
    DISCRETES = 64,
    INPUTS = 100,
    HOLDINGS = 200,
    CLAMPED = 108,
    MOST = 1000,
    SPACIOUS = 10000,
    MOST_MASTERS = 16,
    LOG_BYTES = 65536,
};

static const int missing_holdings[] = {111, 112, 120};
static const int missing_inputs[] = {95};

static modbus_mapping_t *image;
static bool is_whole;

static char requests[LOG_BYTES];
static size_t requests_end;

static void fail(const char *what)
{
    fprintf(stderr, "libmodbus_device: %s: %s\n", what, modbus_strerror(errno));
    exit(EXIT_FAILURE);
}

static int number_at(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

/* All that write, and those that read one register or bit. */
static void log_request(const uint8_t *pdu, int length)
{
    if (pdu[0] <= MODBUS_FC_READ_INPUT_REGISTERS && number_at(pdu + 3) != 1)
        return;
    if (requests_end + 2 * length + 2 > LOG_BYTES)
        requests_end = 0;
    if (requests_end > 0)
        requests[requests_end++] = ' ';
    for (int i = 0; i < length; i++)
        requests_end += sprintf(requests + requests_end, "%02x", pdu[i]);
}

/* Whether a request for registers touches one that is missing. */
static bool is_missing(const uint8_t *pdu)
{
    const int *missing = missing_holdings;
    size_t count = sizeof missing_holdings / sizeof *missing_holdings;
    int first = number_at(pdu + 1), length = 1;
    switch (pdu[0]) {
    case MODBUS_FC_READ_INPUT_REGISTERS:
        missing = missing_inputs;
        count = sizeof missing_inputs / sizeof *missing_inputs;
        /* fall through */
    case MODBUS_FC_READ_HOLDING_REGISTERS:
    case MODBUS_FC_WRITE_MULTIPLE_REGISTERS:
        length = number_at(pdu + 3);
        break;
    case MODBUS_FC_WRITE_SINGLE_REGISTER:
    case MODBUS_FC_MASK_WRITE_REGISTER:
        break;
    default:
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (first <= missing[i] && missing[i] < first + length)
            return true;
    return false;
}

/* One request; `false` when the connection is at its end, or what came is not Modbus. */
static bool serve(modbus_t *context, int master, int checksum_bytes)
{
    uint8_t request[MODBUS_MAX_ADU_LENGTH];
    modbus_set_socket(context, master);
    int length = modbus_receive(context, request);
    if (length <= 0)
        return length == 0; /* of another unit */
    const uint8_t *pdu = request + modbus_get_header_length(context);
    log_request(pdu, length - modbus_get_header_length(context) - checksum_bytes);
    if (!is_whole && is_missing(pdu))
        return modbus_reply_exception(context, request, MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS) != -1;
    int sent = modbus_reply(context, request, length, image);
    if (!is_whole && image->tab_registers[CLAMPED] > MOST)
        image->tab_registers[CLAMPED] = MOST;
    return sent != -1;
}

/* A line of standard input; `false` at its end. */
static bool obey(void)
{
    char line[4096], *rest = line;
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    const char *verb = strsep(&rest, " \n");
    if (strcmp(verb, "requests") == 0) {
        printf("%.*s\n", (int)requests_end, requests);
        requests_end = 0;
        return true;
    }
    strsep(&rest, " "); /* the unit: all are one */
    const char *area = strsep(&rest, " ");
    int at = atoi(strsep(&rest, " "));
    uint16_t *registers = area[0] == 'h' ? image->tab_registers : image->tab_input_registers;
    uint8_t *bits = area[0] == 'c' ? image->tab_bits : image->tab_input_bits;
    bool is_bits = area[0] == 'c' || area[0] == 'd';
    if (strcmp(verb, "set") == 0) {
        for (const char *value; (value = strsep(&rest, " \n")) != NULL && *value != '\0'; at++) {
            if (is_bits)
                bits[at] = atoi(value);
            else
                registers[at] = atoi(value);
        }
        puts("ok");
        return true;
    }
    for (int end = at + atoi(rest); at < end; at++)
        printf("%d ", is_bits ? bits[at] : registers[at]);
    putchar('\n');
    return true;
}

int main(int count, char **arguments)
{
    if (count < 4)
        return EXIT_FAILURE;
    bool is_rtu = strcmp(arguments[2], "rtu") == 0;
    is_whole = count > 4;
    if (is_whole)
        image = modbus_mapping_new(SPACIOUS, SPACIOUS, SPACIOUS, SPACIOUS);
    else
        image = modbus_mapping_new(COILS, DISCRETES, HOLDINGS, INPUTS);
    if (image == NULL)
        fail("modbus_mapping_new");
    modbus_t *listening = modbus_new_tcp("127.0.0.1", atoi(arguments[1]));
    modbus_t *context = is_rtu ? modbus_new_rtu("/dev/null", 19200, 'N', 8, 1) : listening;
    if (listening == NULL || context == NULL)
        fail("a context");
    if (is_rtu && modbus_set_slave(context, atoi(arguments[3])) == -1)
        fail("modbus_set_slave");
    int listener = modbus_tcp_listen(listening, MOST_MASTERS);
    if (listener == -1)
        fail("modbus_tcp_listen");
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* What was read ahead would not be waited for. */
    setvbuf(stdin, NULL, _IONBF, 0);
    puts("listening");

    struct pollfd polled[2 + MOST_MASTERS] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    int used = 2;
    for (;;) {
        if (poll(polled, used, -1) == -1)
            fail("poll");
        if (polled[0].revents != 0 && !obey())
            return EXIT_SUCCESS;
        for (int i = 2; i < used; i++) {
            if (polled[i].revents != 0 && !serve(context, polled[i].fd, is_rtu ? 2 : 0)) {
                close(polled[i].fd);
                polled[i--] = polled[--used];
            }
        }
        if (polled[1].revents != 0 && used < 2 + MOST_MASTERS) {
            int on = 1, master = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (master == -1)
                continue;
            setsockopt(master, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            polled[used++] = (struct pollfd){.fd = master, .events = POLLIN};
        }
    }
}
