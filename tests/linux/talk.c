// SPDX-License-Identifier: BSD-2-Clause
/*
 * talk vsock PORT TEXT, or talk ADDRESS PORT TEXT: says TEXT (with \r and \n as printf has them) to a port of the
 * host's and prints what comes back.  Busybox has nothing for vsock, and its static wget does not run without the C
 * library's files.
 */
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int reach(const char *where, uint32_t port)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	struct sockaddr_in other = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int vsock = !strcmp(where, "vsock");
	int fd = socket(vsock ? AF_VSOCK : AF_INET, SOCK_STREAM, 0);

	if (!vsock && inet_pton(AF_INET, where, &other.sin_addr) != 1)
		return -1;
	if (vsock ? connect(fd, (struct sockaddr *)&host, sizeof(host))
		  : connect(fd, (struct sockaddr *)&other, sizeof(other)))
		return -1;
	return fd;
}

static size_t unescape(const char *from, char *to)
{
	size_t size = 0;

	for (; *from; from++) {
		if (*from == '\\' && (from[1] == 'r' || from[1] == 'n'))
			to[size++] = *++from == 'r' ? '\r' : '\n';
		else
			to[size++] = *from;
	}
	return size;
}

int main(int argc, char **argv)
{
	char buffer[4096];
	ssize_t got;

	if (argc != 4 || strlen(argv[3]) > sizeof(buffer))
		return 2;
	int fd = reach(argv[1], (uint32_t)strtoul(argv[2], NULL, 10));
	size_t size = unescape(argv[3], buffer);
	if (fd < 0 || write(fd, buffer, size) != (ssize_t)size) {
		perror("talk");
		return 1;
	}
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, (size_t)got, stdout);
	return got < 0;
}
