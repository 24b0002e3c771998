// SPDX-License-Identifier: BSD-2-Clause
/*
 * A program of a Linux guest's: sends a number of bytes to a port of the host and says how many came back the same.
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 4096

int main(int argc, char **argv)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
	long left = argc == 3 ? atol(argv[2]) : 0, same = 0;
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	unsigned char out[PIECE], in[PIECE];

	host.svm_port = argc == 3 ? (unsigned int)atol(argv[1]) : 0;
	if (fd < 0 || connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0) {
		perror("vsock");
		return 1;
	}
	for (unsigned char turn = 0; left > 0; left -= PIECE, turn++) {
		size_t got = 0;

		memset(out, turn, sizeof(out));
		if (write(fd, out, sizeof(out)) != PIECE)
			break;
		while (got < PIECE) {
			ssize_t more = read(fd, in + got, PIECE - got);

			if (more <= 0)
				break;
			got += (size_t)more;
		}
		if (got != PIECE || memcmp(in, out, PIECE))
			break;
		same += PIECE;
	}
	printf("vsock echoed %ld\n", same);
	return 0;
}
