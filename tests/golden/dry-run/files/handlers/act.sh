#!/bin/sh
echo "would act: ${DISPATCH_DRY_RUN:-no}"
