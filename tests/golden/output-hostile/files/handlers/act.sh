#!/bin/sh
printf '\033[31mred\033[0m plain\ttab\n'
printf 'clear \033[2J title \033]0;owned\007 bell \007 back\bspace\n'
printf 'bidi \342\200\256 txt.exe, C1 \302\233 31m, bad \377\376 bytes\n'
printf 'half a character \303'
printf '\nprogress 1%%\rprogress 99%%\n'
printf 'no newline at the end'
